package once

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// publishTimeout bounds how long the callers of a process wait for others to have
// the result, too.
const publishTimeout = time.Second

const (
	// leastKeep and mostKeep bound how long a result is kept that is for those who
	// wait for it only: one of them may be cut off when it is put, and asks for it
	// when it is connected again.
	leastKeep = time.Second
	mostKeep  = 15 * time.Second
)

// A flight is one call for all callers of a process: it gets the result of another
// process, or runs the function of the caller that began it. It has a goroutine of
// its own, because that caller may give up; the goroutine ends by itself, at the
// latest when all callers have given up and the function has returned.
type flight[T any] struct {
	key      string // of the caller
	acquirer *locker.Acquirer
	fn       func(context.Context) (T, error)
	ctx      context.Context // of the flight: it ends when all have given up
	cancel   context.CancelCauseFunc
	lane     *lane[T]
	after    []*wake // of the lane, when this one began
	wake     *wake   // what this one leaves behind
	lead     bool    // only a result of its own will do

	// What follows is guarded by Group.mu.

	callers  int           // who still wait
	all      int           // who ever did
	closed   bool          // nobody joins any more
	running  bool          // the function was called
	returned bool          // the function has returned
	doubt    time.Duration // for how long the result may come through yet, as its put had no answer; 0 if it had

	landed  chan struct{} // closed when outcome is set
	outcome outcome[T]    // set before landed is closed, then never changed
}

// An outcome is what a flight brought.
type outcome[T any] struct {
	v        T
	err      error
	shared   bool
	panicked *PanicError
	exited   bool // the function called runtime.Goexit
}

// newFlight returns a flight that comes after all functions of its key that have
// returned. The caller holds mu.
func (g *Group[T]) newFlight(ctx context.Context, key string) (*flight[T], error) {
	if err := checkKey(key, g.prefix); err != nil {
		return nil, err
	}
	a, err := g.client.Acquirer(request(g.prefix+key), g.settings.lease...)
	if err != nil {
		return nil, err
	}
	k := g.lane(key)
	f := &flight[T]{
		key: key, acquirer: a, callers: 1, all: 1,
		lane: k, after: slices.Clone(k.wakes), lead: k.forgotten,
		wake: &wake{settled: make(chan struct{})}, landed: make(chan struct{}),
	}
	f.ctx, f.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	k.last = f
	k.flights++
	return f, nil
}

// leave takes one caller off a flight, whose ctx has ended. It says whether the
// function runs; who has no patience for others only does not leave then.
func (g *Group[T]) leave(ctx context.Context, f *flight[T], impatient bool) (running, left bool) {
	g.mu.Lock()
	running = f.running
	if running && impatient {
		g.mu.Unlock()
		return true, false
	}
	f.callers--
	last := f.callers == 0
	if last {
		f.closed = true // what it brings may be the error of its cancelled context
	}
	g.mu.Unlock()
	if last {
		f.cancel(ended(ctx))
	}
	return running, true
}

// fly is the goroutine of a flight.
func (g *Group[T]) fly(f *flight[T]) {
	defer g.settle(f)
	var o outcome[T]
	brought := false
	defer func() {
		switch p := recover(); { // of an Encoding, or of a Store
		case p != nil:
			e := &PanicError{Value: p, Stack: debug.Stack()}
			o = outcome[T]{err: e, panicked: e}
		case !brought:
			o.err = g.fail(f.key, fmt.Errorf("%w: an Encoding or a Store called runtime.Goexit", ErrLeaderPanicked))
		}
		g.land(f, o)
	}()
	o = g.bring(f)
	brought = true
}

// bring returns what another process has brought, or what the function returned.
func (g *Group[T]) bring(f *flight[T]) outcome[T] {
	l, o, err := g.meet(f)
	switch {
	case err != nil:
		return outcome[T]{err: g.fail(f.key, err)}
	case l != nil:
		return g.run(f, l)
	}
	return o
}

// land hands the outcome out, to those who came before.
func (g *Group[T]) land(f *flight[T], o outcome[T]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f.closed = true
	o.shared = o.shared || f.all > 1
	f.outcome = o
	close(f.landed)
}

// settle ends a flight. What nobody refuses any more is dropped.
func (g *Group[T]) settle(f *flight[T]) {
	g.mu.Lock()
	k := f.lane
	k.flights--
	if k.last == f {
		k.last = nil
	}
	if f.returned && f.doubt == 0 {
		k.drop(f.wake)
	}
	if f.doubt > 0 {
		key, wake := f.key, f.wake // the timer must not keep the result
		time.AfterFunc(f.doubt, func() { g.dispel(key, k, wake) })
	}
	g.tidy(f.key, k)
	g.mu.Unlock()
	close(f.wake.settled)
	f.cancel(nil)
}

// meet returns the outcome that another process has brought, or the lease to run
// under.
func (g *Group[T]) meet(f *flight[T]) (*locker.Lease, outcome[T], error) {
	for _, w := range f.after {
		select {
		case <-w.settled:
		case <-f.ctx.Done():
			return nil, outcome[T]{}, ended(f.ctx)
		}
	}
	fresh := g.settings.fresh
	for lead := f.lead; !lead; {
		began := time.Now()
		l, r, err := g.source.wait(f.ctx, f.acquirer, fresh)
		switch {
		case err != nil || l != nil:
			return l, outcome[T]{}, err
		case r.err != nil:
			lead = true // what cannot be read is no result
		case fresh == 0 && f.refuses(r):
			// Its put had no answer and came through late.
		case fresh > 0 && r.Failed != "" && (r.age > time.Since(began) || f.refuses(r)):
			fresh = 0 // errors are for those who waited
		default:
			o, err := g.decode(r)
			if err == nil {
				return nil, o, nil
			}
			lead = true
		}
	}
	l, err := f.acquirer.Acquire(f.ctx)
	return l, outcome[T]{}, err
}

// refuses says whether a record is of a function that had returned, in this process,
// before the flight began.
func (f *flight[T]) refuses(r *record) bool {
	return slices.ContainsFunc(f.after, func(w *wake) bool { return w.run == r.Run })
}

// decode returns the outcome that a record is of.
func (g *Group[T]) decode(r *record) (outcome[T], error) {
	o := outcome[T]{shared: true, err: r.remote()}
	if o.err != nil {
		return o, nil
	}
	return o, g.settings.encoding.Unmarshal(r.data, &o.v)
}

// run calls the function under the lease, and publishes what it returns.
func (g *Group[T]) run(f *flight[T], l *locker.Lease) outcome[T] {
	defer l.ReleaseWithin(0) //nolint:errcheck // what is not answered goes on in the background
	g.mu.Lock()
	f.running = true
	if !f.closed { // as it is after another Forget
		f.lane.forgotten = false
	}
	g.mu.Unlock()
	work, stop := l.Context(f.ctx)
	defer stop()
	fence, _ := l.Fence()
	r := newRecord(fence, time.Now())
	abandoned := false
	o := call(withLease(work, l), f.fn, func() { abandoned = g.returned(f, r) })
	r.At = time.Now()
	lostErr := l.Err()
	if lostErr == nil && o.err != nil && errors.Is(context.Cause(work), locker.ErrLost) {
		lostErr = context.Cause(work) // fn was told to end, and may not know why
	}
	switch {
	case lostErr != nil:
		return o.with(lostErr)
	case o.err != nil && abandoned:
		return o // it may be the error of the cancelled context, which is not the others'
	}
	return g.publish(f, l, r, o)
}

// returned notes that the function of a flight has returned: who comes from now on
// has come after its result, so must not join this flight, nor one that began before
// now and waits for the same result. It says whether all callers have given up.
func (g *Group[T]) returned(f *flight[T], r *record) (abandoned bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f.returned, f.closed = true, true
	f.wake.run = r.Run
	k := f.lane
	k.wakes = append(k.wakes, f.wake)
	if next := k.last; next != nil && !next.running && !next.lead {
		next.closed = true
	}
	return f.callers == 0
}

// with returns the outcome with another error beside its own.
func (o outcome[T]) with(err error) outcome[T] {
	if !errors.Is(o.err, locker.ErrLost) {
		o.err = errors.Join(o.err, err)
	}
	return o
}

// call calls fn in a goroutine of its own, which a panic, or runtime.Goexit, ends
// and no other. It calls returned there, as on a busy machine it takes a while until
// another goroutine runs.
func call[T any](ctx context.Context, fn func(context.Context) (T, error), returned func()) (o outcome[T]) {
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer returned()
		o.exited = true
		defer func() {
			if p := recover(); p != nil {
				o.exited, o.panicked = false, &PanicError{Value: p, Stack: debug.Stack()}
			}
		}()
		o.v, o.err = fn(ctx)
		o.exited = false
	}()
	<-over
	switch {
	case o.panicked != nil:
		o.err = o.panicked
	case o.exited:
		o.err = fmt.Errorf("%w: it called runtime.Goexit", ErrLeaderPanicked)
	}
	return o
}

// publish lets others have the outcome, and returns it as the callers here get it.
func (g *Group[T]) publish(f *flight[T], l *locker.Lease, r *record, o outcome[T]) outcome[T] {
	if o.err == nil {
		var err error
		if r.data, err = g.settings.encoding.Marshal(o.v); err != nil {
			o.err = g.fail(f.key, fmt.Errorf("result: %w", err))
		}
	}
	err := g.put(f, l, r, o.err)
	if o.err == nil && errors.Is(err, locker.ErrTooLarge) {
		o.err = g.fail(f.key, err)
		err = g.put(f, l, r, err)
	}
	if lost(err) || err != nil && o.err == nil && !passes(err) {
		return o.with(g.fail(f.key, err))
	}
	return o
}

// passes says whether an error of a put may pass: then who waits elsewhere runs its
// own function, and here nobody needs to know.
func passes(err error) bool {
	return errors.Is(err, locker.ErrFull) || errors.Is(err, locker.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
}

// room returns how many bytes a record may have.
func (g *Group[T]) room(ctx context.Context, key string) int {
	shelf, err := g.source.shelf(ctx, key)
	if err != nil {
		return math.MaxInt // the put says it
	}
	return shelf.MaxSize
}

// put puts a record, of a failure if there is one.
func (g *Group[T]) put(f *flight[T], l *locker.Lease, r *record, failure error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(f.ctx), publishTimeout)
	defer cancel()
	ttl := l.TTL()
	keep := min(max(ttl/2, leastKeep), mostKeep)
	if failure != nil {
		r = r.fail(failure, g.room(ctx, l.Key()))
	} else {
		keep = max(keep, g.settings.fresh)
	}
	// What is soon over anyway is not worth the wait for a disk.
	err := g.source.put(ctx, l, r, keep, keep <= mostKeep)
	if err != nil && !lost(err) && g.source.retries(err) {
		g.mu.Lock()
		// A renewal that was under way may let the lease begin anew, as may a
		// restart of the server.
		f.doubt = max(2*ttl, leastKeep)
		g.mu.Unlock()
	}
	return err
}
