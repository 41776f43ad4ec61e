package lockertest

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// expiry: a lease that nobody renews ends at its TTL, not before and not much
// later, and never comes back.
func expiry(e *env) {
	dead, b := e.backend(), e.backend()
	stamp := time.Now()
	g, err := dead.Acquire(e.ctx, e.lock("k"))
	e.ok(err)
	if g.TTL < e.TTL {
		e.Errorf("granted for %v, asked for %v", g.TTL, e.TTL)
	}
	next, err := b.Acquire(e.ctx, e.lock("k"))
	e.ok(err)
	if took := time.Since(stamp); took < e.TTL {
		e.Errorf("handed over after %v: before the lease of %v was over", took, e.TTL)
	}
	if next.Token == g.Token {
		e.Error("two grants have one token")
	}
	old := locker.Hold{Kind: locker.Exclusive, Key: "k", Token: g.Token, Session: g.Session}
	r := []locker.Renewal{{Hold: old, TTL: e.TTL, Attempt: 1}}
	dead.Renew(e.ctx, r)
	e.is(r[0].Err, locker.ErrLost, "renewing a lease that ran out")
	e.is(dead.Release(e.ctx, old), locker.ErrNotHeld, "releasing a lease that ran out")
	e.ok(b.Release(e.ctx, locker.Hold{Kind: locker.Exclusive, Key: "k", Token: next.Token, Session: next.Session}))
}

// renewal: a Client keeps its lease for as long as it likes.
func renewal(e *env) {
	var mu sync.Mutex
	renewed := 0
	c := e.client(locker.WithTrace(&locker.Trace{Renewed: func(i locker.RenewedInfo) {
		mu.Lock()
		defer mu.Unlock()
		if i.Err == nil {
			renewed++
		}
	}}))
	l := e.acquire(c, "k")
	work, cancel := l.Context(e.ctx)
	defer cancel()
	other := e.client()
	for end := time.Now().Add(3 * e.TTL); time.Now().Before(end); time.Sleep(e.TTL / 10) {
		e.ok(l.Check())
		_, err := other.TryAcquire(e.ctx, "k")
		e.is(err, locker.ErrLocked, "a try at a key that is kept")
	}
	e.ok(work.Err())
	e.release(l)
	mu.Lock()
	defer mu.Unlock()
	if renewed < 3 && !e.Keeps {
		e.Errorf("renewed %d times in three TTLs", renewed)
	}
	select {
	case <-l.Lost():
		e.Error("Lost is closed by a release")
	default:
	}
	e.is(l.Check(), locker.ErrNotHeld, "Check after the release")
	e.closes(work.Done(), "the context ends after the release")
	e.is(context.Cause(work), locker.ErrNotHeld, "the context's cause after the release")
	e.ok(l.Release(e.ctx)) // idempotent
}

// lossByDisconnect: where holds depend on a connection, its end is their end,
// and they are told at once.
func lossByDisconnect(e *env) {
	if e.Disconnect == nil {
		// Holds depend on their TTL alone: then grants must say so.
		b := e.backend()
		g, err := b.Acquire(e.ctx, e.lock("k"))
		e.ok(err)
		if g.Session != nil {
			e.Error("a grant has a Session, and the harness has no Disconnect")
		}
		e.ok(b.Release(e.ctx, locker.Hold{Kind: locker.Exclusive, Key: "k", Token: g.Token}))
		return
	}
	c := e.client(locker.WithTTL(30 * time.Second)) // longer than the patience of the case
	l := e.acquire(c, "k")
	work, cancel := l.Context(e.ctx)
	defer cancel()
	lost := l.Lost()
	e.Disconnect(c.Backend())
	e.closes(lost, "Lost after the connection ended")
	e.is(l.Check(), locker.ErrLost, "Check after the connection ended")
	e.is(l.Err(), locker.ErrLost, "Err after the connection ended")
	e.closes(work.Done(), "the context ends after the connection")
	e.is(context.Cause(work), locker.ErrLost, "the context's cause")
	e.is(l.Release(e.ctx), locker.ErrLost, "Release after the loss")

	again := e.acquire(c, "k") // the client reconnects by itself
	e.is(l.Check(), locker.ErrLost, "a lost lease stays lost")
	e.release(again)
}

// lossByFreeze: with a server that is silent, belief ends at the deadline.
func lossByFreeze(e *env) {
	if e.Freeze == nil || e.Thaw == nil {
		e.Fatal("the harness cannot freeze its server: every backend can stop answering, so this must be tested")
	}
	c := e.client()
	l := e.acquire(c, "k")
	e.Freeze()
	frozen := time.Now()
	thaw := sync.OnceFunc(e.Thaw)
	defer thaw()
	work, cancel := l.Context(e.ctx)
	defer cancel()
	lost := l.Lost()
	e.closes(work.Done(), "the context at the stop instant")
	if err := l.Check(); err != nil {
		e.Logf("the stop instant came late: %v", err) // possible on a busy machine
	}
	e.closes(lost, "Lost at the deadline")
	if took := time.Since(frozen); took > e.TTL+e.TTL/2 {
		e.Errorf("Lost closed %v after the server froze; the TTL is %v", took, e.TTL)
	}
	e.is(context.Cause(work), locker.ErrLost, "the context's cause")
	e.is(l.Check(), locker.ErrLost, "Check after the deadline")
	thaw()
	e.is(l.Release(e.ctx), locker.ErrLost, "Release after the loss")
	e.is(l.Check(), locker.ErrLost, "a lost lease stays lost when the server is back")
}

// maxHold: a hold ends after its longest time, and the key is free then.
func maxHold(e *env) {
	c := e.client(locker.WithMaxHold(e.TTL / 2))
	l := e.acquire(c, "k")
	e.closes(l.Lost(), "Lost when the longest hold is over")
	e.is(l.Err(), locker.ErrMaxHold, "Err")
	e.is(l.Err(), locker.ErrLost, "Err")
	e.eventually(func() bool { return e.counts(0, 0) }, "the key is free")
}

// cancelLeaksNothing: acquisitions cancelled around the instant of their grant
// leave neither holder nor waiter.
func cancelLeaksNothing(e *env) {
	const rounds, goroutines = 40, 8
	clients := []*locker.Client{e.client(), e.client()}
	var wg sync.WaitGroup
	for i := range goroutines {
		c := clients[i%len(clients)]
		wg.Go(func() {
			for range rounds {
				ctx, cancel := context.WithTimeout(e.ctx, time.Duration(rand.Int64N(int64(2*time.Millisecond))))
				l, err := c.Acquire(ctx, "k")
				switch {
				case err == nil:
					err = l.Release(e.ctx)
					if err != nil {
						e.Error(err)
					}
				case !errors.Is(err, context.DeadlineExceeded):
					e.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	e.residue("after the cancels")
	e.release(e.acquire(clients[0], "k"))
}

// cancelledBefore: a context that has ended loses, even where the key is free.
func cancelledBefore(e *env) {
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	c := e.client()
	_, err := c.Acquire(ctx, "k")
	e.is(err, context.Canceled, "Acquire")
	_, err = c.TryAcquire(ctx, "k")
	e.is(err, context.Canceled, "TryAcquire")
	l := e.acquire(c, "k")
	if err := l.Release(ctx); err != nil { // bounds the waiting, not the release
		e.is(err, context.Canceled, "Release")
	}
	e.residue("after a release with a cancelled context")
}

// closing: Close loses what is held, gives it back, and ends what waits.
func closing(e *env) {
	c := locker.New(e.Env.Backend(), locker.WithTTL(e.TTL))
	l := e.acquire(c, "k")
	waiting := make(chan error)
	go func() {
		_, err := c.Acquire(e.ctx, "k")
		waiting <- err
	}()
	e.eventually(func() bool { return e.counts(1, 1) }, "one holds and one waits")
	lost := l.Lost()
	e.ok(c.Close())
	e.closes(lost, "Lost after Close")
	e.is(l.Check(), locker.ErrClosed, "Check after Close")
	if err := <-waiting; !errors.Is(err, locker.ErrClosed) {
		e.Errorf("a wait ended by Close: got error %v, want one matching ErrClosed", err)
	}
	_, err := c.Acquire(e.ctx, "k")
	e.is(err, locker.ErrClosed, "Acquire after Close")
	e.ok(c.Close()) // idempotent
	e.release(e.acquire(e.client(), "k"))
}
