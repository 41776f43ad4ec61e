package dflockd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/locker"
	lockserver "github.com/distributed-go/distributed/server"
)

func TestTheSecretComesFirstOnEveryConnection(t *testing.T) {
	scriptBubble(t, func(s *script, number int) {
		s.expect("auth|_|hunter2")
		s.say("ok")
		for s.next() == "l|k|0" {
			s.say("timeout")
		}
		s.say(granted(1))
		s.skip()
	}, func(t *testing.T, b *Backend, n *network) {
		mustAcquire(t, b, lock("k"))
		n.expectSeen(t, "1 auth|_|hunter2", "1 l|k|0", "2 auth|_|hunter2", "2 l|k|86400")
	}, WithSecret("hunter2"))
}

func TestAnswersToTheSecret(t *testing.T) {
	for answer, want := range map[string]error{
		"error_auth":       locker.ErrAuth,
		"error":            locker.ErrAuth,
		"timeout":          locker.ErrUnavailable,
		"ok " + token(1):   locker.ErrUnavailable,
		granted(1):         locker.ErrUnavailable,
		"":                 locker.ErrUnavailable,
		"error_draining":   locker.ErrUnavailable,
		"220 ESMTP ready.": locker.ErrUnavailable,
	} {
		scriptBubble(t, func(s *script, _ int) {
			s.next()
			s.say(answer)
		}, func(t *testing.T, b *Backend, n *network) {
			_, err := b.Acquire(context.Background(), lock("k"))
			wantErr(t, err, want)
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows the secret: %v", err)
			}
			if left := len(b.servers[0].all()); left != 0 {
				t.Errorf("%d connections are left", left)
			}
		}, WithSecret("hunter2"))
	}
}

// A wait that ends while others connect says that nobody was reached, and not that
// somebody holds the key; in every protocol.
func TestAWaitThatEndsBeforeTheConnection(t *testing.T) {
	for name, opts := range map[string][]Option{"session": nil, "base": {WithBaseProtocol()}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hang := func(ctx context.Context, _ string) (net.Conn, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				b := newBackend(t, []string{where}, append(opts, WithDialer(hang))...)
				b.UseClock(clockOf())
				ctx, cancel := context.WithTimeoutCause(context.Background(), time.Second, errors.New("over"))
				defer cancel()
				_, err := b.Acquire(ctx, lock("k"))
				wantErr(t, err, locker.ErrUnavailable)
				wantErr(t, err, context.Cause(ctx))

				c := locker.New(b, locker.WithWait(time.Second))
				_, err = c.Acquire(context.Background(), "k")
				wantErr(t, err, locker.ErrUnavailable)
				if errors.Is(err, locker.ErrLocked) || !strings.Contains(err.Error(), "not connected to "+where) {
					t.Errorf("the error does not say where: %v", err)
				}
				c.Close()
			})
		})
	}
}

func TestAServerThatDoesNotAnswerTheSecret(t *testing.T) {
	for _, reads := range []bool{true, false} {
		scriptBubble(t, func(s *script, _ int) {
			if reads {
				s.skip()
			} else {
				time.Sleep(time.Minute)
			}
		}, func(t *testing.T, b *Backend, _ *network) {
			began := time.Now()
			_, err := b.Acquire(context.Background(), lock("k"))
			wantErr(t, err, locker.ErrUnavailable)
			if took := time.Since(began); took != dialTimeout {
				t.Errorf("took %v", took)
			}
		}, WithSecret("hunter2"))
	}
}

func TestTLSAndASecretWithARealServer(t *testing.T) {
	cert, pool := newCertificate(t)
	addr := startServer(t, lockserver.Config{
		TLS:       &tls.Config{Certificates: []tls.Certificate{cert}},
		AuthToken: "hunter2",
	})
	_, port, _ := net.SplitHostPort(addr)
	servers := []string{"localhost:" + port}
	good := WithTLS(&tls.Config{RootCAs: pool})

	b := newBackend(t, servers, good, WithSecret("hunter2"))
	defer b.Close()
	if want := "dflockds://localhost:" + port; b.String() != want {
		t.Errorf("name %s, want %s", b, want)
	}
	g := mustAcquire(t, b, lock("k"))
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := b.Acquire(ctx, lock("k")) // cancelled by halves, over TLS
	wantErr(t, err, context.DeadlineExceeded)
	done := make(chan locker.Grant)
	go func() { done <- mustAcquire(t, b, lock("k")) }()
	time.Sleep(20 * time.Millisecond) // real time: so that it mostly waits; it holds either way
	mustRelease(t, b, hold("k", g))
	mustRelease(t, b, hold("k", <-done))

	for name, c := range map[string]struct {
		opts []Option
		want error
	}{
		"unknown authority": {[]Option{WithTLS(nil), WithSecret("hunter2")}, locker.ErrAuth},
		"wrong name":        {[]Option{WithTLS(&tls.Config{RootCAs: pool, ServerName: "example.com"})}, locker.ErrAuth},
		"wrong secret":      {[]Option{good, WithSecret("hunter3")}, locker.ErrAuth},
		"no secret":         {[]Option{good}, locker.ErrAuth},
		"no TLS":            {nil, locker.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t, servers, c.opts...)
			defer b.Close()
			_, err := b.Acquire(context.Background(), lock("other"))
			wantErr(t, err, c.want)
		})
	}
}

func TestASecretThatTheServerDoesNotKnow(t *testing.T) {
	addr := startServer(t, lockserver.Config{})
	b := newBackend(t, []string{addr}, WithSecret("hunter2"))
	defer b.Close()
	_, err := b.Acquire(context.Background(), lock("k"))
	wantErr(t, err, locker.ErrAuth)
}

// newCertificate returns a certificate for localhost and the pool that trusts
// it.
func newCertificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}
