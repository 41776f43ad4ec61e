package etcd

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

// TestNobodyThere: what cannot be reached is unavailable, until the context ends; the
// error says who was asked, and what came of it.
func TestNobodyThere(t *testing.T) {
	for _, secret := range []string{"", "user:password"} {
		t.Run("secret "+secret, func(t *testing.T) {
			t.Parallel()
			nobodyThere(t, secret)
		})
	}
}

func nobodyThere(t *testing.T, secret string) {
	c, err := locker.Open("etcd://127.0.0.1:1,localhost:2/app", silent, locker.WithSecret(secret))
	must(t, err)
	defer c.Close()
	says := func(err error, wants ...string) {
		t.Helper()
		assert.Matches(t, err, locker.ErrUnavailable)
		assert.MatchesNot(t, err, locker.ErrLocked, locker.ErrAuth)
		for _, want := range append(wants, "127.0.0.1:1, localhost:2") {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v: want %q in it", err, want)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = c.Acquire(ctx, "k")
	assert.Matches(t, err, context.DeadlineExceeded)
	if secret == "" {
		says(err, "connection refused")
	} else {
		says(err) // a token is still asked for
	}
	_, err = c.TryAcquire(t.Context(), "k")
	says(err, "connection refused")
	assert.MatchesNot(t, err, context.DeadlineExceeded) // the caller has time
	_, err = c.Backend().(*Backend).Inspect(t.Context())
	says(err, "connection refused")
	assert.MatchesNot(t, err, context.DeadlineExceeded)
}

// TestNobodyAnswers: connections are taken, and nothing is ever said.
func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	c, err := locker.Open("etcd://"+ln.Addr().String(), silent)
	must(t, err)
	defer c.Close()
	_, err = c.TryAcquire(t.Context(), "k")
	assert.Matches(t, err, locker.ErrUnavailable)
	if !strings.Contains(err.Error(), "no answer from "+ln.Addr().String()) {
		t.Error(err)
	}
}

// TestTroubleIsForgotten with the next answer.
func TestTroubleIsForgotten(t *testing.T) {
	t.Parallel()
	s := startEtcd(t)
	p := newProxy(t, s.addr)
	b := dialTo(t, p.at)
	defer b.Close()
	p.down()
	_, err := b.Inspect(t.Context())
	assert.Matches(t, err, locker.ErrUnavailable)
	eventually(t, "the trouble is known", func() bool { return b.trouble.Load() != nil })
	p.up()
	_, err = b.Inspect(t.Context())
	must(t, err)
	if why := b.trouble.Load(); why != nil {
		t.Errorf("after an answer: %s", *why)
	}
}

func TestPithy(t *testing.T) {
	for text, want := range map[string]string{
		`connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`:                                       "dial tcp 127.0.0.1:1: connect: connection refused",
		`last connection error: connection error: desc = "transport: authentication handshake failed: tls: first record does not look like a TLS handshake"`: "authentication handshake failed: tls: first record does not look like a TLS handshake",
		"etcdserver: no leader": "etcdserver: no leader",
	} {
		assert.Exactly(t, text, pithy(text), want)
	}
}
