package locker_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

const ttl = 10 * time.Second // of newClient

// believed is for how long a lease is believed in after its stamp.
func believed(ttl time.Duration) time.Duration { return ttl - ttl/100 - 2*time.Millisecond }

// late is a script that grants only after a while, as a server whose answer is
// long on its way.
func (f *fake) late(d time.Duration) func(context.Context, locker.Request) (locker.Grant, error) {
	return func(ctx context.Context, req locker.Request) (locker.Grant, error) {
		time.Sleep(d)
		return f.serve(ctx, req)
	}
}

// TestUncontendedAcquireIsOneCall: no confirmation, no renewal, nothing else.
func TestUncontendedAcquireIsOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		info := new(record[locker.AcquiredInfo])
		c := newClient(t, f, locker.WithTrace(&locker.Trace{Acquired: info.add}))
		l := acquire(t, c, "k")
		assert.Exactly(t, "calls", f.count(), 1)
		assert.Exactly(t, "deadline", time.Until(l.Deadline()), believed(ttl))
		assert.Exactly(t, "TTL", l.TTL(), ttl)
		assert.Exactly(t, "key", l.Key(), "k")
		assert.Exactly(t, "trace", fmt.Sprint(info.all()), fmt.Sprint([]locker.AcquiredInfo{{Key: "k", Fence: 1}}))
		assert.Sure(t, l.Check())
		assert.Sure(t, l.Err())
		assert.Sure(t, l.Release(t.Context()))
		assert.Exactly(t, "calls", f.count(), 2)
		assert.Exactly(t, "holders", f.holders(), 0)
	})
}

// TestDeadlineCountsFromBeforeTheRequest, not from the answer.
func TestDeadlineCountsFromBeforeTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.acquire = f.late(3 * time.Second)
		c := newClient(t, f)
		stamp := time.Now()
		l := acquire(t, c, "k")
		assert.Exactly(t, "deadline after the stamp", l.Deadline().Sub(stamp), believed(ttl))
		assert.Exactly(t, "confirmations", len(f.of("renew")), 0)
		// The renewal counts from before its request, too.
		f.set(func() {
			f.renew = func(_ context.Context, rs []locker.Renewal) {
				time.Sleep(time.Second)
				f.extend(rs)
			}
		})
		time.Sleep(2 * time.Second) // five seconds after the stamp
		r := f.of("renew")
		assert.Exactly(t, "renewals", len(r), 1)
		assert.Exactly(t, "deadline after the renewal's stamp", l.Deadline().Sub(f.start.Add(r[0].at)), believed(ttl))
		assert.Sure(t, l.Release(t.Context()))
	})
}

// TestDoneContextSendsNothing: a context that has ended loses even where the
// key is free.
func TestDoneContextSendsNothing(t *testing.T) {
	f := newFake()
	c := newClient(t, f)
	why := errors.New("changed my mind")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	_, err := c.Acquire(ctx, "k")
	assert.Matches(t, err, context.Canceled, why)
	_, err = c.TryAcquire(ctx, "k")
	assert.Matches(t, err, context.Canceled, why)
	assert.Exactly(t, "calls", f.count(), 0)
}

// TestContextEndsWithTheGrant: the error wins, and the grant is given back.
func TestContextEndsWithTheGrant(t *testing.T) {
	for _, late := range []time.Duration{0, 6 * time.Second} { // without and with a confirmation
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			ctx, cancel := context.WithCancel(t.Context())
			f.acquire = func(_ context.Context, req locker.Request) (locker.Grant, error) {
				time.Sleep(late)
				cancel()
				return f.serve(context.Background(), req)
			}
			_, err := newClient(t, f).Acquire(ctx, "k")
			assert.Matches(t, err, context.Canceled)
			synctest.Wait()
			assert.Exactly(t, "holders", f.holders(), 0)
		})
	}
}

// TestContextBoundsTheWaitOnly: not the hold.
func TestContextBoundsTheWaitOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		l, err := newClient(t, f).Acquire(ctx, "k")
		assert.Sure(t, err)
		time.Sleep(time.Minute)
		assert.Sure(t, l.Check())
		assert.Sure(t, l.Release(t.Context()))
	})
}

// TestOneOwnerOfAGrant cancels acquisitions around the instant of the grant:
// either the caller has the lease or nobody has.
func TestOneOwnerOfAGrant(t *testing.T) {
	for i := range 300 {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			c := newClient(t, f)
			first := acquire(t, c, "k")
			time.AfterFunc(time.Second, func() { first.Release(context.Background()) })
			ctx, cancel := context.WithTimeout(t.Context(), time.Second+time.Duration(i%3-1))
			defer cancel()
			l, err := c.Acquire(ctx, "k")
			want := 0
			if err == nil {
				want = 1
				assert.Sure(t, l.Check())
			} else {
				assert.Matches(t, err, context.DeadlineExceeded)
			}
			time.Sleep(2 * time.Second) // all that was to be given back was
			assert.Exactly(t, "holders", f.holders(), want)
		})
	}
}

// TestAcquireRidesOutAnOutage with pauses that grow up to a second or so.
func TestAcquireRidesOutAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.acquire = func(ctx context.Context, req locker.Request) (locker.Grant, error) {
			if f.now() < time.Minute {
				return unavailable(ctx, req)
			}
			return f.serve(ctx, req)
		}
		retrying, acquired, book := new(record[locker.RetryingInfo]), new(record[locker.AcquiredInfo]), newLogbook()
		c := newClient(t, f, locker.WithTrace(&locker.Trace{Retrying: retrying.add, Acquired: acquired.add}), locker.WithLogger(newLogger(book)))
		l := acquire(t, c, "k")
		pauses := retrying.all()
		if n := len(pauses); n < 40 || n > 130 {
			t.Errorf("%d attempts in a minute", n)
		}
		for i, p := range pauses {
			assert.Matches(t, p.Err, locker.ErrUnavailable)
			if p.Pause < 10*time.Millisecond || p.Pause > 1500*time.Millisecond || i > 8 && p.Pause < 500*time.Millisecond {
				t.Errorf("pause %d is %v", i, p.Pause)
			}
		}
		if n := book.with("trying on"); n < 5 || n > 7 {
			t.Errorf("%d log lines in a minute, want one every ten seconds", n)
		}
		if w := acquired.all()[0].Waited; w < time.Minute {
			t.Errorf("the trace says that the acquisition waited %v, and it was more than a minute", w)
		}
		assert.Sure(t, l.Release(t.Context()))
	})
}

// TestOutageOutlastsTheContext: the error says both.
func TestOutageOutlastsTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.acquire = unavailable
		failed := new(record[locker.FailedInfo])
		c := newClient(t, f, locker.WithTrace(&locker.Trace{Failed: failed.add}))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := c.Acquire(ctx, "k")
		assert.Matches(t, err, locker.ErrUnavailable, context.DeadlineExceeded)
		assert.MatchesNot(t, err, locker.ErrLocked)
		var e *locker.Error
		if !errors.As(err, &e) || e.Op != "acquire" || e.Key != "k" || e.Backend != "fake://" {
			t.Errorf("the error is %#v", err)
		}
		assert.Exactly(t, "traced", len(failed.all()), 1)
		assert.Exactly(t, "traced wait", failed.all()[0].Waited, 5*time.Second)
		assert.Matches(t, failed.all()[0].Err, locker.ErrUnavailable)
	})
}

// TestWaitEndsWhileQueued: the key was held by somebody else.
func TestWaitEndsWhileQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		first := acquire(t, newClient(t, f), "k")
		c := newClient(t, f)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := c.Acquire(ctx, "k")
		assert.Matches(t, err, locker.ErrLocked, context.DeadlineExceeded)
		assert.MatchesNot(t, err, locker.ErrUnavailable)

		_, err = c.Acquire(t.Context(), "k", locker.WithWait(2*time.Second))
		assert.Matches(t, err, locker.ErrLocked)
		assert.MatchesNot(t, err, locker.ErrUnavailable, context.DeadlineExceeded)
		assert.Exactly(t, "time", f.now(), 7*time.Second)

		// The earlier of the two counts, and says what it is.
		_, err = c.Acquire(ctx2(t, time.Second), "k", locker.WithWait(2*time.Second))
		assert.Matches(t, err, locker.ErrLocked, context.DeadlineExceeded)
		assert.Sure(t, first.Release(t.Context()))
	})
}

func ctx2(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// TestWithWaitInAnOutage: it was not locked.
func TestWithWaitInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.acquire = unavailable
		_, err := newClient(t, f, locker.WithWait(5*time.Second)).Acquire(t.Context(), "k")
		assert.Matches(t, err, locker.ErrUnavailable)
		assert.MatchesNot(t, err, locker.ErrLocked, context.DeadlineExceeded)
		assert.Exactly(t, "time", f.now(), 5*time.Second)
	})
}

// permanent are errors that waiting does not help against.
var permanent = []error{
	locker.ErrAuth, locker.ErrLimitMismatch, locker.ErrInvalid, locker.ErrClosed, errors.ErrUnsupported,
	errors.New("something else"),
}

// busy are errors that pass, but that a wait with an end reports at once.
var busy = []error{locker.ErrTooManyKeys, locker.ErrTooManyWaiters, locker.ErrTooManyConns, locker.ErrLeaseTooShort}

// TestOtherErrorsReturnAtOnce: nothing but an outage is ridden out.
func TestOtherErrorsReturnAtOnce(t *testing.T) {
	for _, want := range append(permanent, busy...) {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.acquire = func(context.Context, locker.Request) (locker.Grant, error) {
				return locker.Grant{}, fmt.Errorf("server says: %w", want)
			}
			_, err := newClient(t, f).Acquire(t.Context(), "k")
			assert.Matches(t, err, want)
			assert.Exactly(t, "calls", f.count(), 1)
			assert.Exactly(t, "time", f.now(), 0)
		})
	}
}

// TestMustAcquire waits for whatever passes, for as long as it takes.
func TestMustAcquire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		pass := append([]error{locker.ErrUnavailable, locker.ErrDraining}, busy...)
		f.acquire = func(ctx context.Context, req locker.Request) (locker.Grant, error) {
			if n := len(f.of("acquire")); n <= len(pass) {
				return locker.Grant{}, pass[n-1]
			}
			return f.serve(ctx, req)
		}
		l := acquirer(t, newClient(t, f), "k").MustAcquire()
		assert.Sure(t, l.Check())
		assert.Exactly(t, "acquisitions", len(f.of("acquire")), len(pass)+1)
		assert.Sure(t, l.Release(t.Context()))
	})
}

// TestMustAcquirePanicsOnWhatNeverPasses, and on nothing else.
func TestMustAcquirePanicsOnWhatNeverPasses(t *testing.T) {
	for _, want := range permanent {
		f := newFake()
		f.acquire = func(context.Context, locker.Request) (locker.Grant, error) { return locker.Grant{}, want }
		a := acquirer(t, newClient(t, f), "k")
		func() {
			defer func() {
				err, _ := recover().(error)
				assert.Matches(t, err, want)
			}()
			t.Error("MustAcquire returned", a.MustAcquire())
		}()
	}
}

// acquirer prepares the exclusive lease on a key.
func acquirer(t testing.TB, c *locker.Client, key string, opts ...locker.Option) *locker.Acquirer {
	t.Helper()
	a, err := c.Acquirer(locker.Request{Kind: locker.Exclusive, Key: key, Limit: 1, Weight: 1}, opts...)
	assert.Sure(t, err)
	return a
}

// TestTry is one call, whatever it is answered.
func TestTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		l := acquire(t, newClient(t, f), "k")
		failed := new(record[locker.FailedInfo])
		c := newClient(t, f, locker.WithTrace(&locker.Trace{Failed: failed.add}))
		_, err := c.TryAcquire(t.Context(), "k")
		assert.Matches(t, err, locker.ErrLocked)
		f.set(func() { f.acquire = unavailable })
		_, err = c.TryAcquire(t.Context(), "k")
		assert.Matches(t, err, locker.ErrUnavailable)
		assert.MatchesNot(t, err, locker.ErrLocked)
		assert.Exactly(t, "calls", len(f.of("acquire")), 3)
		assert.Exactly(t, "traced", len(failed.all()), 2)
		f.set(func() { f.acquire = nil })
		assert.Sure(t, l.Release(t.Context()))
		l, err = c.TryAcquire(t.Context(), "k")
		assert.Sure(t, err)
		assert.Sure(t, l.Release(t.Context()))
	})
}

// TestFence: only the holder of all of a key has one.
func TestFence(t *testing.T) {
	f := newFake()
	c := newClient(t, f)
	for _, r := range []struct {
		req  locker.Request
		want bool
	}{
		{locker.Request{Kind: locker.Exclusive, Limit: 1, Weight: 1}, true},
		{locker.Request{Kind: locker.Counting, Limit: 1, Weight: 1}, true},
		{locker.Request{Kind: locker.Counting, Limit: 3, Weight: 3}, true},
		{locker.Request{Kind: locker.Counting, Limit: 3, Weight: 2}, false},
		{locker.Request{Kind: locker.Counting, Limit: 3, Weight: 1}, false},
	} {
		r.req.Key = fmt.Sprintf("k%d-%d", r.req.Limit, r.req.Weight)
		a, err := c.Acquirer(r.req)
		assert.Sure(t, err)
		l, err := a.Acquire(t.Context())
		assert.Sure(t, err)
		fence, ok := l.Fence()
		assert.Exactly(t, r.req.Key, ok, r.want)
		assert.Exactly(t, r.req.Key, fence != 0, r.want)
		assert.Sure(t, l.Release(t.Context()))
	}
}

// TestMustAcquireKeepsItsPlace: WithWait is for waits that have an end. A Lock
// that gave up its place each time would never get its turn.
func TestMustAcquireKeepsItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		first := acquire(t, newClient(t, f), "k")
		time.AfterFunc(time.Minute, func() { first.Release(context.Background()) })
		book := newLogbook()
		l := acquirer(t, newClient(t, f, locker.WithWait(time.Second), locker.WithLogger(newLogger(book))), "k").MustAcquire()
		assert.Exactly(t, "time", f.now(), time.Minute)
		assert.Exactly(t, "acquisitions", len(f.of("acquire")), 2)
		assert.Exactly(t, "log lines", book.with(""), 0)
		assert.Sure(t, l.Release(t.Context()))
	})
}

// TestAnswerAtTheEndOfTheWait: an answer that came as the context ended is not
// swallowed by it.
func TestAnswerAtTheEndOfTheWait(t *testing.T) {
	for _, want := range permanent {
		f := newFake()
		ctx, cancel := context.WithCancel(t.Context())
		f.acquire = func(context.Context, locker.Request) (locker.Grant, error) {
			cancel()
			return locker.Grant{}, want
		}
		_, err := newClient(t, f).Acquire(ctx, "k")
		assert.Matches(t, err, want)
	}
}
