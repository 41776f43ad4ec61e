package locker_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/locker"
)

var errCut = errors.New("connection reset")

// TestSessionEnds: everything that depends on it is lost at once, nothing else
// is, and nothing is sent.
func TestSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s, other := locker.NewSession("ref"), locker.NewSession(nil)
		exactly(t, "ref", s.Ref(), any("ref"))
		sure(t, s.Err())
		lost := new(record[string])
		c := newClient(t, f, locker.WithTrace(&locker.Trace{Lost: func(i locker.LostInfo) {
			if errors.Is(i.Err, errCut) {
				lost.add(i.Key)
			}
		}}))
		var dependent []*locker.Lease
		f.set(func() { f.session = s })
		for i := range 20 {
			dependent = append(dependent, acquire(t, c, fmt.Sprint("dependent", i)))
		}
		gone := acquire(t, c, "gone")
		sure(t, gone.Release(t.Context()))
		f.set(func() { f.session = other })
		elsewhere := acquire(t, c, "elsewhere")
		f.set(func() { f.session = nil })
		free := acquire(t, c, "free")
		before := f.count()

		s.End(errCut)
		s.End(errors.New("another cause"))
		matches(t, s.Err(), locker.ErrLost, errCut)
		for _, l := range dependent {
			matches(t, l.Check(), locker.ErrLost, errCut)
			exactly(t, "Lost is closed", closed(l.Lost()), true)
			matches(t, l.Release(t.Context()), locker.ErrLost, errCut)
		}
		exactly(t, "traced", len(lost.all()), len(dependent))
		sure(t, gone.Err())
		sure(t, elsewhere.Check())
		sure(t, free.Check())
		exactly(t, "calls", f.count(), before)
		time.Sleep(time.Minute)
		sure(t, elsewhere.Check())
		sure(t, free.Check())
	})
}

// TestSessionEndsWithTheGrant: a grant that depended on it is an outage and no
// loss, because nobody believed in it yet, and is acquired anew.
func TestSessionEndsWithTheGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		dead := locker.NewSession(nil)
		f.acquire = func(ctx context.Context, req locker.Request) (locker.Grant, error) {
			g, err := f.serve(ctx, req)
			if len(f.of("acquire")) == 1 {
				g.Session = dead
				dead.End(errCut)
				f.free(locker.Hold{Kind: req.Kind, Key: req.Key, Token: g.Token})
			}
			return g, err
		}
		book := newLogbook()
		c := newClient(t, f, locker.WithLogger(newLogger(book)))
		_, err := c.TryAcquire(t.Context(), "k")
		matches(t, err, locker.ErrUnavailable)
		matchesNot(t, err, locker.ErrLost)
		f.set(func() { f.calls = nil })
		l := acquire(t, c, "k")
		exactly(t, "acquisitions", len(f.of("acquire")), 2)
		sure(t, l.Check())
		sure(t, l.Release(t.Context()))
		exactly(t, "losses logged", book.with("nobody listens"), 0)
	})
}

// TestSessionEndsWithoutACause is tolerated.
func TestSessionEndsWithoutACause(t *testing.T) {
	f := newFake()
	f.session = locker.NewSession(nil)
	l := acquire(t, newClient(t, f), "k")
	f.session.End(nil)
	matches(t, l.Check(), locker.ErrLost)
	exactly(t, "cause", f.session.Err().Error(), "lease lost: session ended")
}

// TestSessionEndsWhileLeasesComeAndGo: whoever holds a lease of a session that
// has ended is told.
func TestSessionEndsWhileLeasesComeAndGo(t *testing.T) {
	for range 50 {
		f := newFake()
		s := locker.NewSession(nil)
		f.session = s
		c := newClient(t, f)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for n := range 20 {
					l, err := c.TryAcquire(context.Background(), fmt.Sprint("k", i, "-", n))
					if err != nil {
						matches(t, err, locker.ErrUnavailable)
						return
					}
					if n%2 == 0 {
						if err := l.Release(context.Background()); err != nil {
							matches(t, err, locker.ErrLost, errCut)
						}
						continue
					}
					if s.Err() != nil {
						<-l.Lost() // at once, or the test hangs
						matches(t, l.Check(), locker.ErrLost, errCut)
					}
				}
			})
		}
		wg.Go(func() { s.End(errCut) })
		wg.Wait()
		_, err := c.TryAcquire(t.Context(), "late")
		matches(t, err, locker.ErrUnavailable)
	}
}

// TestOneLossOfManyReasons: the deadline, a refusal, the end of the session, a
// check, Close and a release come at the same instant. There is one loss, or
// one release, with one cause, which stays.
func TestOneLossOfManyReasons(t *testing.T) {
	for i := range 3000 {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.session = locker.NewSession(nil)
			f.renew = func(_ context.Context, rs []locker.Renewal) {
				time.Sleep(believed(ttl) - f.now()) // refused at the deadline
				rs[0].Err = locker.ErrLost
			}
			losses := new(record[error])
			c := locker.New(f, locker.WithTTL(ttl), locker.WithTrace(&locker.Trace{Lost: func(i locker.LostInfo) { losses.add(i.Err) }}))
			l := acquire(t, c, "k")
			ctx, cancel := l.Context(t.Context())
			defer cancel()
			lost := l.Lost()
			var wg sync.WaitGroup
			at := func(f func()) {
				wg.Go(func() {
					time.Sleep(believed(ttl))
					f()
				})
			}
			at(func() { f.session.End(errCut) })
			at(func() { _ = l.Check() })
			at(func() { _ = c.Close() })
			released := false
			if i%3 == 0 {
				at(func() { released = l.Release(t.Context()) == nil })
			}
			wg.Wait()
			err := l.Err()
			<-ctx.Done()
			if released {
				sure(t, err)
				exactly(t, "Lost is closed", closed(lost), false)
				exactly(t, "losses", len(losses.all()), 0)
			} else {
				matches(t, err, locker.ErrLost)
				exactly(t, "Lost is closed", closed(lost), true)
				exactly(t, "losses", len(losses.all()), 1)
				exactly(t, "cause", losses.all()[0], err)
			}
			time.Sleep(time.Minute)
			sure(t, c.Close())
			exactly(t, "cause", l.Err(), err)
		})
		if t.Failed() {
			t.Fatalf("run %d", i)
		}
	}
}

// A bigBackend has one lock for everything that it does, also for its name.
type bigBackend struct {
	*fake
	big sync.Mutex
}

func (b *bigBackend) String() string {
	b.big.Lock()
	defer b.big.Unlock()
	return "big://"
}

// TestSessionEndsUnderTheBackendsLock: the backend may hold the lock that its
// String needs, while leases are lost for other reasons, too.
func TestSessionEndsUnderTheBackendsLock(t *testing.T) {
	for range 200 {
		b := &bigBackend{fake: newFake()}
		s := locker.NewSession(nil)
		b.session = s
		c := newClient(t, b, locker.WithMaxHold(time.Microsecond))
		for i := range 20 {
			acquire(t, c, fmt.Sprint("k", i))
		}
		b.big.Lock()
		s.End(errCut)
		b.big.Unlock()
		sure(t, c.Close())
	}
}
