package memory_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/memory"
)

func TestOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for url, want := range map[string]time.Duration{
			"memory://":          memory.DefaultTTL,
			"memory://?ttl=10s":  10 * time.Second,
			"memory://?ttl=15ms": 15 * time.Millisecond,
		} {
			c, err := locker.Open(url)
			if err != nil {
				t.Fatal(err)
			}
			if s := c.Backend().String(); s != "memory://" {
				t.Errorf("the backend is %s", s)
			}
			l, err := c.Acquire(t.Context(), "k") // free, as each has a server of its own
			if err != nil {
				t.Fatal(err)
			}
			if l.TTL() != want {
				t.Errorf("%s: TTL %v, want %v", url, l.TTL(), want)
			}
			defer c.Close()
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	for _, url := range []string{
		"memory://host", "memory:///path", "memory://?ttl=10", "memory://?ttl=0s", "memory://?ttl=-1s",
		"memory://?ttl=", "memory://?ttl=1s&ttl=2s", "memory://?tll=1s", "memory://?ttl=1s&fences=1",
	} {
		c, err := locker.Open(url)
		if !errors.Is(err, locker.ErrInvalid) {
			t.Errorf("%s: %v", url, err)
		}
		if c != nil {
			t.Errorf("%s: a client and an error", url)
			c.Close()
		}
	}
}
