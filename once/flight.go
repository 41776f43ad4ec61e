package once

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// publishTimeout bounds how long the callers of a process wait for others to have
// the result, too.
const publishTimeout = time.Second

// keepAnswer is how long a result is kept that is for those who wait for it only.
const keepAnswer = time.Second

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
	after    *wake // of a flight whose function had returned before this one began; nil if none
	wake     *wake
	lead     bool // only a result of its own will do

	// What follows is guarded by Group.mu.

	barrier  *wake // what the next flight comes after, unless this one has returned; at first the same as after
	callers  int   // who still wait
	all      int   // who ever did
	closed   bool  // nobody joins any more
	running  bool  // the function was called
	returned bool  // the function has returned
	doubtful bool  // nobody knows whether the result was put: it may come through yet

	landed  chan struct{} // closed when outcome is set
	outcome outcome[T]    // set before landed is closed, then never changed
}

// A wake is what a flight leaves behind: who comes after its function has returned
// must not get its result, which may be on its way to the backend.
type wake struct {
	settled chan struct{} // closed when that is over
	run     string        // of the record; set before settled is closed
}

// An outcome is what a flight brought.
type outcome[T any] struct {
	v        T
	err      error
	shared   bool
	panicked *PanicError
	exited   bool // the function called runtime.Goexit
}

// newFlight returns a flight that comes after the last of its key, which is nil or
// closed. The caller holds mu.
func (g *Group[T]) newFlight(ctx context.Context, key string, last *flight[T]) (*flight[T], error) {
	if err := checkKey(key, g.prefix); err != nil {
		return nil, err
	}
	a, err := g.client.Acquirer(request(g.prefix+key), g.settings.lease...)
	if err != nil {
		return nil, err
	}
	_, lead := g.forgotten[key]
	lead = lead || last != nil && last.lead && !last.running
	f := &flight[T]{
		key: key, acquirer: a, callers: 1, all: 1, lead: lead,
		wake: &wake{settled: make(chan struct{})}, landed: make(chan struct{}),
	}
	switch {
	case last != nil && last.returned:
		f.after = last.wake
	case last != nil: // all its callers gave up: what it may bring yet is as good for this one
		f.after = last.barrier
	}
	f.barrier = f.after
	f.ctx, f.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	return f, nil
}

// leave takes one caller off a flight. It says whether the function runs.
func (g *Group[T]) leave(ctx context.Context, f *flight[T]) (running bool) {
	g.mu.Lock()
	f.callers--
	last := f.callers == 0
	if last {
		f.closed = true // what it brings may be the error of its cancelled context
	}
	running = f.running
	g.mu.Unlock()
	if last {
		f.cancel(ended(ctx))
	}
	return running
}

// fly is the goroutine of a flight.
func (g *Group[T]) fly(f *flight[T]) {
	defer g.settle(f)
	defer func() {
		if p := recover(); p != nil { // of an Encoding, or of a Store
			e := &PanicError{Value: p, Stack: debug.Stack()}
			g.land(f, outcome[T]{err: e, panicked: e})
		}
	}()
	l, o, err := g.meet(f)
	switch {
	case err != nil:
		o = outcome[T]{err: g.fail(f.key, err)}
	case l != nil:
		o = g.run(f, l)
	}
	g.land(f, o)
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

// settle ends a flight.
func (g *Group[T]) settle(f *flight[T]) {
	g.mu.Lock()
	switch {
	case g.flights[f.key] != f:
	case f.doubtful: // the next must know what to refuse
		g.flights[f.key] = &flight[T]{closed: true, returned: true, running: true, wake: f.wake}
	default:
		delete(g.flights, f.key)
	}
	if f.lead && !f.running { // who comes next still wants a result of its own
		g.forgotten[f.key] = struct{}{}
	}
	g.mu.Unlock()
	close(f.wake.settled)
	f.cancel(nil)
}

// meet returns the outcome that another process has brought, or the lease to run
// under.
func (g *Group[T]) meet(f *flight[T]) (*locker.Lease, outcome[T], error) {
	old := ""
	if f.after != nil {
		select {
		case <-f.after.settled:
			old = f.after.run
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
		case fresh == 0 && r.Run == old:
			// Its put had no answer and came through late.
		case fresh > 0 && r.Failed != "" && r.age > time.Since(began):
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
	g.mu.Unlock()
	work, stop := l.Context(f.ctx)
	defer stop()
	o := call(work, f.fn)
	lostErr := l.Err()
	if lostErr == nil && o.err != nil && errors.Is(context.Cause(work), locker.ErrLost) {
		lostErr = context.Cause(work) // fn was told to end, and may not know why
	}
	r := newRecord(l, time.Now())
	switch abandoned := g.returned(f, r); {
	case lostErr != nil:
		return o.with(lostErr)
	case o.err != nil && abandoned:
		return o // it may be the error of the cancelled context, which is not the others'
	}
	return g.publish(f, l, r, o)
}

// returned notes that the function of a flight has returned: who comes from now on
// has come after its result, so must not join this flight, nor one that began after
// all callers of this one had given up, and that waits for the same result now. It
// says whether they have.
func (g *Group[T]) returned(f *flight[T], r *record) (abandoned bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f.returned, f.closed = true, true
	f.wake.run = r.Run
	if next := g.flights[f.key]; next != nil && next != f && !next.running && !next.lead {
		next.closed, next.barrier = true, f.wake
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
// and no other.
func call[T any](ctx context.Context, fn func(context.Context) (T, error)) (o outcome[T]) {
	over := make(chan struct{})
	go func() {
		defer close(over)
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

// put puts a record, of a failure if there is one.
func (g *Group[T]) put(f *flight[T], l *locker.Lease, r *record, failure error) error {
	keep := max(g.settings.fresh, keepAnswer)
	if failure != nil {
		r, keep = r.fail(failure), keepAnswer
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(f.ctx), publishTimeout)
	defer cancel()
	err := g.source.put(ctx, l, r, keep)
	if err != nil && !lost(err) && g.source.retries(err) {
		g.mu.Lock()
		f.doubtful = true
		g.mu.Unlock()
	}
	return err
}
