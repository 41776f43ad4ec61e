package locker_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

var errCut = errors.New("connection reset")

// TestSessionEnds: everything that depends on it is lost at once, nothing else
// is, and nothing is sent.
func TestSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s, other := locker.NewSession("ref"), locker.NewSession(nil)
		assert.Exactly(t, "ref", s.Ref(), any("ref"))
		assert.Sure(t, s.Err())
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
		assert.Sure(t, gone.Release(t.Context()))
		f.set(func() { f.session = other })
		elsewhere := acquire(t, c, "elsewhere")
		f.set(func() { f.session = nil })
		free := acquire(t, c, "free")
		before := f.count()

		s.End(errCut)
		s.End(errors.New("another cause"))
		assert.Matches(t, s.Err(), locker.ErrLost, errCut)
		for _, l := range dependent {
			assert.Matches(t, l.Check(), locker.ErrLost, errCut)
			assert.Exactly(t, "Lost is closed", closed(l.Lost()), true)
			assert.Matches(t, l.Release(t.Context()), locker.ErrLost, errCut)
		}
		assert.Exactly(t, "traced", len(lost.all()), len(dependent))
		assert.Sure(t, gone.Err())
		assert.Sure(t, elsewhere.Check())
		assert.Sure(t, free.Check())
		assert.Exactly(t, "calls", f.count(), before)
		time.Sleep(time.Minute)
		assert.Sure(t, elsewhere.Check())
		assert.Sure(t, free.Check())
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
		assert.Matches(t, err, locker.ErrUnavailable)
		assert.MatchesNot(t, err, locker.ErrLost)
		f.set(func() { f.calls = nil })
		l := acquire(t, c, "k")
		assert.Exactly(t, "acquisitions", len(f.of("acquire")), 2)
		assert.Sure(t, l.Check())
		assert.Sure(t, l.Release(t.Context()))
		assert.Exactly(t, "losses logged", book.with("nobody listens"), 0)
	})
}

// TestSessionEndsWithoutACause is tolerated.
func TestSessionEndsWithoutACause(t *testing.T) {
	f := newFake()
	f.session = locker.NewSession(nil)
	l := acquire(t, newClient(t, f), "k")
	f.session.End(nil)
	assert.Matches(t, l.Check(), locker.ErrLost)
	assert.Exactly(t, "cause", f.session.Err().Error(), "lease lost: session ended")
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
						assert.Matches(t, err, locker.ErrUnavailable)
						return
					}
					if n%2 == 0 {
						if err := l.Release(context.Background()); err != nil {
							assert.Matches(t, err, locker.ErrLost, errCut)
						}
						continue
					}
					if s.Err() != nil {
						<-l.Lost() // at once, or the test hangs
						assert.Matches(t, l.Check(), locker.ErrLost, errCut)
					}
				}
			})
		}
		wg.Go(func() { s.End(errCut) })
		wg.Wait()
		_, err := c.TryAcquire(t.Context(), "late")
		assert.Matches(t, err, locker.ErrUnavailable)
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
				assert.Sure(t, err)
				assert.Exactly(t, "Lost is closed", closed(lost), false)
				assert.Exactly(t, "losses", len(losses.all()), 0)
			} else {
				assert.Matches(t, err, locker.ErrLost)
				assert.Exactly(t, "Lost is closed", closed(lost), true)
				assert.Exactly(t, "losses", len(losses.all()), 1)
				assert.Exactly(t, "cause", losses.all()[0], err)
			}
			time.Sleep(time.Minute)
			assert.Sure(t, c.Close())
			assert.Exactly(t, "cause", l.Err(), err)
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
		assert.Sure(t, c.Close())
	}
}
