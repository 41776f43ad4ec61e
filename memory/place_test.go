package memory

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// enqueue takes a place and wants it acquired or not.
func (w *world) enqueue(b *Backend, r locker.Request, acquired bool) locker.Place {
	w.Helper()
	p, err := b.Enqueue(w.ctx, r)
	w.is(err, nil, "enqueue "+r.Key)
	if p.Acquired() != acquired {
		w.Fatalf("enqueue %s: acquired is %t", r.Key, p.Acquired())
	}
	return p
}

func TestPlaceThatIsAcquiredAtOnce(t *testing.T) {
	bubble(t, func(w *world) {
		b := w.client()
		p := w.enqueue(b, lock("k"), true)
		time.Sleep(ttl - 1)
		g, err := p.Wait(w.ctx)
		w.is(err, nil, "wait")
		if g.TTL != ttl || g.Session == nil || g.Fence == 0 {
			t.Errorf("grant %+v", g)
		}
		time.Sleep(ttl - 1) // its TTL began anew
		w.counts(1, 0)
		w.is(p.Cancel(w.ctx), nil, "cancel after wait")
		w.counts(1, 0)
		_, err = p.Wait(w.ctx)
		w.is(err, locker.ErrNotHeld, "a second wait")
		w.release(b, lock("k"), g)
	})
}

func TestPlaceWaitsForItsTurn(t *testing.T) {
	bubble(t, func(w *world) {
		a, b := w.client(), w.client()
		first := w.get(a, lock("k"))
		r := lock("k")
		r.Try = true // is ignored
		p := w.enqueue(b, r, false)
		behind := w.waiting(w.ctx, a, lock("k"))
		out := w.calling(func() (locker.Grant, error) { return p.Wait(w.ctx) })
		w.still(out, "the place")
		w.release(a, lock("k"), first)
		o := w.now(out, "the place")
		w.is(o.err, nil, "wait")
		w.still(behind, "behind the place")
		w.release(b, lock("k"), o.grant)
		w.is(w.now(behind, "behind").err, nil, "behind")
	})
}

func TestTurnIsCollectedLater(t *testing.T) {
	bubble(t, func(w *world) {
		a, b := w.client(), w.client()
		first := w.get(a, lock("k"))
		p := w.enqueue(b, lock("k"), false)
		w.release(a, lock("k"), first)
		time.Sleep(ttl - 1)
		w.counts(1, 0)
		g, err := p.Wait(w.ctx)
		w.is(err, nil, "wait")
		time.Sleep(ttl - 1)
		w.release(b, lock("k"), g)
	})
}

func TestTurnThatNobodyCollectsPasses(t *testing.T) {
	for _, acquired := range []bool{true, false} {
		bubble(t, func(w *world) {
			a, b := w.client(), w.client()
			if !acquired {
				w.get(a, lasting(lock("k"), second))
			}
			p := w.enqueue(b, lock("k"), acquired)
			if !acquired {
				time.Sleep(second)
			}
			time.Sleep(ttl)
			g := w.get(a, lock("k"))
			_, err := p.Wait(w.ctx)
			w.is(err, locker.ErrPlaceExpired, "wait")
			w.counts(1, 0)
			w.release(a, lock("k"), g)
		})
	}
}

func TestCancelledPlace(t *testing.T) {
	bubble(t, func(w *world) {
		b := w.client()
		held := w.enqueue(b, lock("k"), true)
		queued := w.enqueue(b, lock("k"), false)
		turn := w.enqueue(b, lock("k"), false)
		w.counts(1, 2)
		w.is(queued.Cancel(w.ctx), nil, "queued")
		w.counts(1, 1)
		w.is(held.Cancel(w.ctx), nil, "held")
		w.counts(1, 0)
		w.is(turn.Cancel(w.ctx), nil, "its turn came")
		w.counts(0, 0)
		next := w.get(b, lock("k"))
		for _, p := range []locker.Place{held, queued, turn} {
			w.is(p.Cancel(w.ctx), nil, "again")
			_, err := p.Wait(w.ctx)
			w.is(err, locker.ErrNotHeld, "wait after cancel")
		}
		w.counts(1, 0)
		w.release(b, lock("k"), next)
	})
}

func TestWaitThatEndsLosesThePlace(t *testing.T) {
	for _, acquired := range []bool{true, false} {
		bubble(t, func(w *world) {
			a, b := w.client(), w.client()
			if !acquired {
				w.get(a, lasting(lock("k"), time.Hour))
			}
			p := w.enqueue(b, lock("k"), acquired)
			ctx, cancel := context.WithCancel(w.ctx)
			if acquired {
				cancel()
			}
			out := w.calling(func() (locker.Grant, error) { return p.Wait(ctx) })
			cancel()
			w.is(w.now(out, "wait").err, context.Canceled, "wait")
			synctest.Wait()
			if acquired {
				w.counts(0, 0)
			} else {
				w.counts(1, 0)
			}
			_, err := p.Wait(w.ctx)
			w.is(err, locker.ErrNotHeld, "a second wait")
		})
	}
}
