package lockertest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/distributed-go/distributed/locker"
)

// fences: they grow with every grant of a key, whoever gets it and however the
// last hold ended; a backend without fences invents none.
func fences(e *env) {
	clients := []*locker.Client{e.client(), e.client()}
	var last uint64
	grant := func(f uint64, how string) {
		e.Helper()
		switch {
		case !e.Fences && f != 0:
			e.Fatalf("fence %d from a backend that has none", f)
		case e.Fences && f <= last:
			e.Fatalf("fence %d after %d, %s", f, last, how)
		}
		last = f
	}
	for i := range 10 {
		l := e.acquire(clients[i%2], "k")
		f, ok := l.Fence()
		if ok != e.Fences {
			e.Fatalf("Fence is %v, want %v", ok, e.Fences)
		}
		grant(f, "after a release")
		e.release(l)
	}
	dead, err := e.backend().Acquire(e.ctx, e.lock("k"))
	e.ok(err)
	grant(dead.Fence, "after a release")
	l := e.acquire(clients[0], "k") // when the lease has run out
	f, _ := l.Fence()
	grant(f, "after an expiry")
	e.release(l)
}

// misuse: a token frees nothing but its own hold.
func misuse(e *env) {
	b, other := e.backend(), e.backend()
	g, err := b.Acquire(e.ctx, e.lock("k"))
	e.ok(err)
	right := locker.Hold{Kind: locker.Exclusive, Key: "k", Token: g.Token, Session: g.Session}
	wrong := func(change func(*locker.Hold)) locker.Hold {
		h := right
		change(&h)
		return h
	}
	for what, h := range map[string]locker.Hold{
		"another token": wrong(func(h *locker.Hold) { h.Token[15] ^= 1 }),
		"another fence": wrong(func(h *locker.Hold) { h.Token[7] ^= 1 }),
		"no token":      wrong(func(h *locker.Hold) { h.Token = locker.Token{} }),
		"another key":   wrong(func(h *locker.Hold) { h.Key = "k2" }),
	} {
		e.is(b.Release(e.ctx, h), locker.ErrNotHeld, "releasing with "+what)
		r := []locker.Renewal{{Hold: h, TTL: e.TTL, Attempt: 1}}
		b.Renew(e.ctx, r)
		e.is(r[0].Err, locker.ErrLost, "renewing with "+what)
	}
	try := e.lock("k")
	try.Try = true
	_, err = other.Acquire(e.ctx, try)
	e.is(err, locker.ErrLocked, "a try after all that")
	e.ok(b.Release(e.ctx, right))
	e.is(b.Release(e.ctx, right), locker.ErrNotHeld, "releasing twice")
}

// badRequests: what can never be right is refused before anything is sent.
func badRequests(e *env) {
	c := e.client()
	for what, key := range map[string]string{
		"empty":     "",
		"space":     "a b",
		"newline":   "a\nr\nb",
		"control":   "a\x00b",
		"not UTF-8": "a\xffb",
		"long":      strings.Repeat("k", 257),
	} {
		_, err := c.Acquire(e.ctx, key)
		e.is(err, locker.ErrInvalid, "key: "+what)
	}
	longest := strings.Repeat("k", 256)
	e.release(e.acquire(c, longest))
	e.release(e.acquire(c, "schlüssel-鍵"))
	for _, bad := range []struct{ limit, weight int }{{0, 1}, {-1, 1}, {1, 0}, {1, -1}, {2, 3}} {
		_, err := c.Acquirer(locker.Request{Kind: locker.Counting, Key: "s", Limit: bad.limit, Weight: bad.weight})
		e.is(err, locker.ErrInvalid, fmt.Sprintf("limit %d, weight %d", bad.limit, bad.weight))
	}
	for what, o := range map[string]locker.Option{
		"TTL":         locker.WithTTL(-1),
		"wait":        locker.WithWait(-1),
		"hold":        locker.WithMaxHold(-1),
		"margin":      locker.WithStopMargin(-1),
		"wide margin": locker.WithStopMargin(e.TTL),
		"ratio":       locker.WithRenewRatio(0.9),
	} {
		_, err := c.Acquire(e.ctx, "k", o)
		e.is(err, locker.ErrInvalid, what)
		var detail *locker.Error
		if !errors.As(err, &detail) || detail.Key != "k" {
			e.Errorf("%s: %v does not say its key", what, err)
		}
	}
}
