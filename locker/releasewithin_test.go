package locker_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

// A bounding fake keeps holds alive and bounds releases by itself.
type bounding struct {
	*keeping
	within []time.Duration
	err    error
}

func (b *bounding) ReleaseWithin(now, d time.Duration, h locker.Hold) error {
	if now > b.stamp() || h.Kept == nil {
		panic("a release from the future, or of what is not kept")
	}
	b.within = append(b.within, d)
	if b.err != nil {
		return b.err
	}
	return b.Release(context.Background(), h)
}

// TestReleaseWithin its time, however the backend bounds it.
func TestReleaseWithin(t *testing.T) {
	for name, f := range map[string]func() (locker.Backend, *fake){
		"renewed": func() (locker.Backend, *fake) {
			f := newFake()
			return f, f
		},
		"kept": func() (locker.Backend, *fake) {
			k := newKeeping()
			return k, k.fake
		},
		"kept by one that bounds": func() (locker.Backend, *fake) {
			b := &bounding{keeping: newKeeping()}
			return b, b.fake
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, f := f()
				c := newClient(t, b)
				l := acquire(t, c, "k")
				assert.Sure(t, l.ReleaseWithin(time.Second))
				assert.Sure(t, l.ReleaseWithin(time.Second)) // it was released
				assert.Matches(t, l.Check(), locker.ErrNotHeld)
				assert.Exactly(t, "releases", len(f.of("release")), 1)
				assert.Exactly(t, "holders", f.holders(), 0)
			})
		})
	}
}

// TestReleaseWithinAnOutage returns in time, and ends the lease nevertheless.
func TestReleaseWithinAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		l := acquire(t, newClient(t, f), "k")
		f.set(func() { f.release = frozen })
		began := f.now()
		err := l.ReleaseWithin(time.Second)
		assert.Exactly(t, "took", f.now()-began, time.Second)
		assert.Matches(t, err, context.DeadlineExceeded)
		assert.Matches(t, l.Check(), locker.ErrNotHeld)
		f.set(func() { f.release = nil })
		time.Sleep(3 * time.Second)
		assert.Exactly(t, "holders", f.holders(), 0)
	})
}

// TestWhatABackendIsBoundBy is the time given, and at most what is left of the
// lease.
func TestWhatABackendIsBoundBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bounding{keeping: newKeeping(), err: context.DeadlineExceeded}
		c := newClient(t, b)
		err := acquire(t, c, "a").ReleaseWithin(time.Second)
		assert.Matches(t, err, context.DeadlineExceeded)
		if assert.Matches(t, acquire(t, c, "b").Release(context.Background()), context.DeadlineExceeded, locker.ErrUnavailable); len(b.within) != 2 {
			t.Fatalf("bound by %v", b.within)
		}
		assert.Exactly(t, "bound", b.within[0], time.Second)
		assert.Exactly(t, "bound by the lease", b.within[1], believed(ttl))
		b.err = locker.ErrNotHeld
		assert.Matches(t, acquire(t, c, "c").ReleaseWithin(time.Second), locker.ErrLost)
		lost := acquire(t, c, "d")
		b.lose(lost.Token(), locker.ErrLost)
		synctest.Wait()
		assert.Matches(t, lost.ReleaseWithin(time.Second), locker.ErrLost)
		assert.Exactly(t, "calls", len(b.within), 3)
	})
}
