package etcd

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

func TestKeysComeBack(t *testing.T) {
	k := keys{"a/b/"}
	for _, s := range []subject{{locker.Exclusive, "k"}, {locker.Counting, "schlüssel/鍵"}, {locker.Exclusive, "a/b"}, {locker.Exclusive, "v/"}} {
		for _, name := range []uint64{0, 1, 1<<64 - 1, 0xabcdef} {
			key := k.entry(s, name)
			if gotS, gotName, ok := k.parse([]byte(key)); !ok || gotS != s || gotName != name {
				t.Errorf("%q is %v, %x, %v", key, gotS, gotName, ok)
			}
			from, to := k.of(s)
			all, end := k.span()
			if key < from || key >= to || key < all || key >= end {
				t.Errorf("%q is not in %q to %q", key, from, to)
			}
		}
	}
}

func TestKeysOfOthers(t *testing.T) {
	k := keys{"p/"}
	for _, key := range []string{
		"", "p/", "p/l/", "p/l/k", "p/l/k 123", "p/x/k 0123456789abcdef", "p/l/ 0123456789abcdef", "q/l/k 0123456789abcdef",
		"p/l/k 0123456789ABCDEF", "p/l/k/0123456789abcdef", "p/l/k 0123456789abcdeg", "p/v/k",
	} {
		if s, name, ok := k.parse([]byte(key)); ok {
			t.Errorf("%q is %v, %x", key, s, name)
		}
	}
	from, to := k.of(subject{locker.Exclusive, "a"})
	if other := k.entry(subject{locker.Exclusive, "a/b"}, 1); other >= from && other < to {
		t.Errorf("%q is in the range of a", other)
	}
}

func TestRecord(t *testing.T) {
	r := record{weight: 2, limit: 1 << 40, asked: 1764090000000, holder: "host/1/prog"}
	if got := parseRecord([]byte(r.String())); got != r {
		t.Errorf("%q is %+v", r, got)
	}
	for _, text := range []string{"", "1", "1 1", "1 1 x y", "0 1 1 y", "2 1 1 y", "a b c d"} {
		if got := parseRecord([]byte(text)); got.weight != 1 || got.limit != 1 {
			t.Errorf("%q is %+v: somebody else would fit beside it", text, got)
		}
	}
	now := time.UnixMilli(r.asked + 1500)
	assert.Exactly(t, "held for", r.heldFor(now), 1500*time.Millisecond)
	assert.Exactly(t, "held for, by a clock that is behind", r.heldFor(now.Add(-time.Hour)), 0)
	assert.Exactly(t, "held for, unknown", record{}.heldFor(now), 0)
}

func TestTokens(t *testing.T) {
	if rev, name := readToken(token(17, 1<<63)); rev != 17 || name != 1<<63 {
		t.Errorf("%d, %d", rev, name)
	}
}

func TestWholeSeconds(t *testing.T) {
	for d, want := range map[time.Duration]time.Duration{
		0: DefaultTTL, 1: time.Second, time.Second: time.Second, time.Second + 1: 2 * time.Second, time.Hour: time.Hour,
	} {
		if got := wholeSeconds(d); got != want {
			t.Errorf("%v is %v, want %v", d, got, want)
		}
	}
}

func TestErrors(t *testing.T) {
	b, err := Dial(config("127.0.0.1:1"))
	must(t, err)
	defer b.Close()
	for _, c := range []struct {
		err, want error
		refused   bool
	}{
		{rpctypes.ErrGRPCNoLeader, locker.ErrUnavailable, false},
		{rpctypes.ErrNoLeader, locker.ErrUnavailable, false},
		{rpctypes.ErrGRPCTimeout, locker.ErrUnavailable, false},
		{rpctypes.ErrGRPCLeaderChanged, locker.ErrUnavailable, false},
		{rpctypes.ErrGRPCRequestTooManyRequests, locker.ErrUnavailable, true},
		{rpctypes.ErrGRPCLeaseNotFound, locker.ErrUnavailable, true},
		{rpctypes.ErrGRPCPermissionDenied, locker.ErrAuth, true},
		{rpctypes.ErrGRPCAuthFailed, locker.ErrAuth, true},
		{rpctypes.ErrGRPCInvalidAuthToken, locker.ErrAuth, true},
		{rpctypes.ErrGRPCUserEmpty, locker.ErrAuth, true},
		{rpctypes.ErrCompacted, locker.ErrUnavailable, true},
		{context.DeadlineExceeded, locker.ErrUnavailable, false},
		{errors.New("connection reset"), locker.ErrUnavailable, false},
	} {
		assert.Matches(t, b.explain(c.err), c.want)
		assert.Exactly(t, fmt.Sprint("refused: ", c.err), refused(c.err), c.refused)
	}
	must(t, b.Close())
	assert.Matches(t, b.explain(errors.New("any")), locker.ErrClosed)
}

func TestURLs(t *testing.T) {
	for url, want := range map[string]string{
		"etcd://":                                 "etcd://127.0.0.1:2379/distributed",
		"etcd://h1,h2:99/my/app":                  "etcd://h1:2379,h2:99/my/app",
		"etcds://[::1]:2379/":                     "etcd://[::1]:2379/distributed",
		"etcd://[::1]?ttl=10s&name=me":            "etcd://[::1]:2379/distributed",
		"etcd://127.0.0.1/app/?insecure-secret=1": "etcd://127.0.0.1:2379/app",
	} {
		c, err := locker.Open(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		assert.Exactly(t, url, c.Backend().String(), want)
		must(t, c.Close())
	}
	for url, secret := range map[string]string{
		"etcd://h?ttl=10": "", "etcd://h?ttl=-1s": "", "etcd://h?ttl=1s&ttl=2s": "", "etcd://h?unknown=1": "",
		"etcd://h?name=a%20b": "", "etcd://h?user=me": "", "etcd://h?insecure-secret=yes": "",
		"etcd://a:b:c": "", "etcd://127.0.0.1": "password", "etcd://h": "u:p",
	} {
		c, err := locker.Open(url, locker.WithSecret(secret))
		if err == nil {
			c.Close()
			t.Errorf("%s is accepted", url)
			continue
		}
		assert.Matches(t, err, locker.ErrInvalid)
	}
}
