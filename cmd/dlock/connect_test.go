package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/distributed-go/distributed/server"
)

func TestSecretReachesTheServer(t *testing.T) {
	const token = "correct horse"
	good, bad := writeFile(t, "good", token+"\n"), writeFile(t, "bad", "wrong")
	empty := writeFile(t, "empty", "\n")
	url := serve(t, server.Config{AuthToken: token})
	for _, c := range []struct {
		env   []string
		flags []string
		code  int
		says  string
	}{
		{nil, nil, exitUsage, "authentication refused"},
		{nil, []string{"--auth-token-file", good}, 0, ""},
		{nil, []string{"--auth-token-file", bad}, exitUsage, "authentication refused"},
		{nil, []string{"--auth-token-file", empty}, exitUsage, "is empty"},
		{[]string{"DFLOCKD_AUTH_TOKEN=" + token}, nil, 0, ""},
		{[]string{"DFLOCKD_AUTH_TOKEN=wrong"}, nil, exitUsage, "authentication refused"},
		{[]string{"DFLOCKD_AUTH_TOKEN_FILE=" + good}, nil, 0, ""},
		{[]string{"DISTRIBUTED_SECRET=" + token}, nil, 0, ""},
		{[]string{"DISTRIBUTED_SECRET_FILE=" + good, "DFLOCKD_AUTH_TOKEN=wrong"}, nil, 0, ""},
		{[]string{"DFLOCKD_AUTH_TOKEN=wrong"}, []string{"--auth-token-file", good}, 0, ""},
	} {
		args := append([]string{"stats", "--server", url}, c.flags...)
		out := call(t, toolEnv(c.env...), args...)
		if out.code != c.code || !strings.Contains(out.stderr, c.says) {
			t.Errorf("%q with %q: %+v, want code %d and %q", c.flags, c.env, out, c.code, c.says)
		}
		if strings.Contains(out.stdout+out.stderr, "horse") {
			t.Errorf("%q with %q: %+v shows the secret", c.flags, c.env, out)
		}
	}
}

func TestSecretIsNotSentInTheClear(t *testing.T) {
	out := call(t, toolEnv("DFLOCKD_AUTH_TOKEN=correct horse"), runSh("dflockd://192.0.2.1", "exit 0", "-n", "key")...)
	if out.code != exitUsage || !strings.Contains(out.stderr, "plaintext") {
		t.Errorf("%+v, want a refusal before anything is sent", out)
	}
}

// certificate makes a certificate for this machine that is its own authority,
// and returns the files with it and its key.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	bytes, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert = writeFile(t, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	key = writeFile(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: bytes})))
	return cert, key
}

func TestTLS(t *testing.T) {
	cert, key := certificate(t)
	url, _ := spawn(t, "--tls-cert", cert, "--tls-key", key)
	if !strings.HasPrefix(url, "dflockds://127.0.0.1:") {
		t.Errorf("listens on %q", url)
	}
	start(t, toolEnv(), runSh(url, "exit 3", "--ca", cert, "key")...).want(3)
	if says := start(t, toolEnv(), runSh(url, "exit 3", "-n", "key")...).want(exitUsage); !strings.Contains(says, "certificate") {
		t.Errorf("an unknown authority: %q", says)
	}
	plain := "dflockd://" + strings.TrimPrefix(url, "dflockds://")
	start(t, toolEnv(), runSh(plain, "exit 3", "-w", "500ms", "key")...).want(exitUsage)
	if out := call(t, toolEnv(), "stats", "--server", url, "--ca", key); out.code != exitUsage || !strings.Contains(out.stderr, "no certificate in") {
		t.Errorf("an authority that is none: %+v", out)
	}
	if out := call(t, toolEnv(), "stats", "--server", url, "--cert", key, "--key", cert); out.code != exitUsage {
		t.Errorf("a certificate that is none: %+v", out)
	}
}

func TestTLSWithACertificateOfOurOwn(t *testing.T) {
	cert, key := certificate(t)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(leaf)
	url := serve(t, server.Config{TLS: &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}})
	url = "dflockds://" + strings.TrimPrefix(url, "dflockd://")
	start(t, toolEnv(), runSh(url, "exit 3", "--ca", cert, "--cert", cert, "--key", key, "key")...).want(3)
	start(t, toolEnv(), runSh(url, "exit 3", "-w", "500ms", "--ca", cert, "key")...).want(exitUsage)
}

// An etcd that is not there is enough to see what would be sent to it.
func TestSecretOfAnEtcd(t *testing.T) {
	const nobody = "etcd://127.0.0.1:1/prefix"
	for _, c := range []struct {
		env  []string
		url  string
		says string
	}{
		{[]string{"DFLOCKD_AUTH_TOKEN=correct horse"}, nobody, "unavailable"}, // it is not for an etcd
		{[]string{"DISTRIBUTED_SECRET=correct horse"}, nobody, "USER:PASSWORD"},
		{[]string{"DISTRIBUTED_SECRET=user:horse"}, "etcd://192.0.2.1/prefix", "plaintext"},
		{[]string{"DISTRIBUTED_SECRET=horse"}, "etcd://192.0.2.1/prefix?user=me", "plaintext"},
		{nil, nobody + "?user=me", "want a secret"},
		{nil, nobody + "?fences=1", `unknown parameter "fences"`},
	} {
		out := call(t, toolEnv(c.env...), runSh(c.url, "exit 3", "-w", "50ms", "key")...)
		if out.code != exitUsage || !strings.Contains(out.stderr, c.says) {
			t.Errorf("%s with %q: %+v, want code %d and %q", c.url, c.env, out, exitUsage, c.says)
		}
		if strings.Contains(out.stdout+out.stderr, "horse") {
			t.Errorf("%s with %q: %+v shows the secret", c.url, c.env, out)
		}
	}
}

func TestCertificatesForAnEtcd(t *testing.T) {
	cert, key := certificate(t)
	for url, want := range map[string]bool{"etcds://127.0.0.1:1/p": true, "etcd://127.0.0.1:1/p": false, "dflockds://127.0.0.1:1": true, "dflockd://127.0.0.1:1": false} {
		out := call(t, toolEnv(), runSh(url, "exit 3", "-w", "50ms", "--ca", cert, "--cert", cert, "--key", key, "key")...)
		if out.code != exitUsage || strings.Contains(out.stderr, "need a URL with TLS") == want {
			t.Errorf("%s: %+v, want to be allowed: %v", url, out, want)
		}
	}
}

func TestAnonymous(t *testing.T) {
	for url, want := range map[string]string{
		"dflockd://h":                  "dflockd://h?process=0",
		"dflockds://h1:1,h2:2?ttl=9s":  "dflockds://h1:1,h2:2?process=0&ttl=9s",
		"dflockd://h?ttl=9s&process=1": "dflockd://h?ttl=9s&process=1",
		"etcd://h":                     "etcd://h",
	} {
		c := connection{url: url}
		if c.anonymous(); c.url != want {
			t.Errorf("%s became %s, want %s", url, c.url, want)
		}
	}
}
