package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/distributed-go/distributed/server"
)

// certificate writes a certificate for localhost and its key.
func certificate(t testing.TB, dir string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// withTLS returns a config with TLS, and a client's.
func withTLS(t testing.TB) (server.Config, *tls.Config) {
	t.Helper()
	cert, key := certificate(t, t.TempDir())
	text, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		t.Fatal("no certificate")
	}
	return server.Config{TLSCert: cert, TLSKey: key}, &tls.Config{RootCAs: roots, ServerName: "localhost"}
}

// exchangeOverTLS has one client wait for another, time out, and be cancelled
// by a half-close: all that reads with deadlines and wakes.
func exchangeOverTLS(t *testing.T, connect func() *peer) {
	t.Helper()
	a, b, c := connect(), connect(), connect()
	token := a.grant(t, "l|k|0")
	b.ask(t, "l|k|1", "ping|_|_")
	if got := b.get(t); got != "timeout" {
		t.Fatalf("got %q, want timeout", got)
	}
	if got := b.get(t); got != "ok" {
		t.Fatalf("got %q, want ok", got)
	}
	b.ask(t, "l|k|100")
	b.silent(t)
	c.ask(t, "l|k|100")
	c.silent(t)
	b.ask(t, "ping|_|_") // read ahead while it waits
	b.silent(t)
	a.expect(t, "r|k|"+token, "ok")
	token = b.granted(t, "33")
	if got := b.get(t); got != "ok" {
		t.Fatalf("got %q, want ok", got)
	}
	if err := c.nc.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	c.closed(t)
	b.expect(t, "r|k|"+token, "ok")
	a.grant(t, "l|k|0")
}

func TestTLS(t *testing.T) {
	cfg, client := withTLS(t)
	s := start(t, cfg)
	addr := listenAndServe(t, s)
	exchangeOverTLS(t, func() *peer {
		nc, err := tls.Dial("tcp", addr, client)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		return newPeer(nc)
	})
}

func TestTLSInVirtualTime(t *testing.T) {
	cfg, client := withTLS(t)
	inVirtualTime(t, cfg, func(t *testing.T, s *server.Server) {
		exchangeOverTLS(t, func() *peer { return newPeer(tls.Client(pipe(s), client)) })
	})
}

func TestServeConnTakesATLSConnAsItIs(t *testing.T) {
	cfg, client := withTLS(t)
	pair, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]server.Config{"with TLS": cfg, "without": {}} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, cfg, func(t *testing.T, s *server.Server) {
				ours, theirs := net.Pipe()
				go s.ServeConn(tls.Server(theirs, &tls.Config{Certificates: []tls.Certificate{pair}}))
				newPeer(tls.Client(ours, client)).grant(t, "l|k|0")
			})
		})
	}
}

func TestTLSHandshakeHasADeadline(t *testing.T) {
	cfg, _ := withTLS(t)
	inVirtualTime(t, cfg, func(t *testing.T, s *server.Server) {
		began := time.Now()
		p := connect(s)
		hello := "\x16\x03\x01\x02\x00\x01\x00\x01\xfc" + strings.Repeat("\x03", 100)
		for i := 0; p.send(hello[i:i+1]) == nil; i++ { // a byte a second
			time.Sleep(time.Second)
		}
		if took := time.Since(began); took < 22*time.Second || took > 25*time.Second {
			t.Errorf("closed after %v, want 23s", took)
		}
	})
}

func TestPlainToTLSAndTLSToPlain(t *testing.T) {
	cfg, client := withTLS(t)
	secure := listenAndServe(t, start(t, cfg))
	plain := listenAndServe(t, start(t, server.Config{}))

	p := newPeer(dial(t, secure))
	defer p.nc.Close()
	p.ask(t, "l|k|0")
	answer, err := io.ReadAll(p.r)
	if strings.HasPrefix(string(answer), "ok") || strings.Contains(string(answer), "error") {
		t.Errorf("plain text was answered %q, %v", answer, err)
	}

	if nc, err := tls.Dial("tcp", plain, client); err == nil {
		nc.Close()
		t.Error("a plain port spoke TLS")
	}
	// Both go on serving.
	if nc, err := tls.Dial("tcp", secure, client); err != nil {
		t.Error(err)
	} else {
		newPeer(nc).grant(t, "l|k|0")
		nc.Close()
	}
}

func TestTLSVersions(t *testing.T) {
	cfg, client := withTLS(t)
	addr := listenAndServe(t, start(t, cfg))
	for version, ok := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		c := client.Clone()
		c.MinVersion, c.MaxVersion = version, version
		nc, err := tls.Dial("tcp", addr, c)
		if (err == nil) != ok {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if err == nil {
			nc.Close()
		}
	}
	stranger := &tls.Config{ServerName: "localhost"}
	var unknown x509.UnknownAuthorityError
	if _, err := tls.Dial("tcp", addr, stranger); !errors.As(err, &unknown) {
		t.Errorf("a client that does not know the certificate got %v", err)
	}
}

func TestCloseDuringTLSHandshake(t *testing.T) {
	cfg, _ := withTLS(t)
	s := start(t, cfg)
	addr := listenAndServe(t, s)
	p := newPeer(dial(t, addr))
	defer p.nc.Close()
	eventually(t, "the connection is known", func() bool { return s.Stats().Connections == 1 })
	began := time.Now()
	s.Close()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("Close took %v", took)
	}
}
