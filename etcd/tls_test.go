package etcd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

// certificate writes a certificate for this machine, which signs itself, and its key,
// and returns who trusts it.
func certificate(t *testing.T) (certFile, keyFile string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	must(t, os.WriteFile(certFile, certPEM, 0o600))
	must(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	return certFile, keyFile, roots
}

// TestTLS: etcds:// trusts whom it is told to trust, and nobody is served without TLS.
func TestTLS(t *testing.T) {
	cert, key, roots := certificate(t)
	s := startEtcdWith(t, func(cfg *embed.Config) {
		cfg.UnsafeNoFsync = true
		cfg.ClientTLSInfo = transport.TLSInfo{CertFile: cert, KeyFile: key}
	})
	acquire := func(scheme string, trusts *tls.Config, within time.Duration) error {
		c, err := locker.Open(scheme+s.addr+"/app?ttl=10s", silent, locker.WithTLS(trusts))
		must(t, err)
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		l, err := c.Acquire(ctx, "k")
		if err == nil {
			err = l.Release(ctx)
		}
		return err
	}
	must(t, acquire("etcds://", &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, time.Minute))
	assert.Matches(t, acquire("etcds://", nil, time.Second), locker.ErrUnavailable)
	assert.Matches(t, acquire("etcd://", nil, time.Second), locker.ErrUnavailable)
}
