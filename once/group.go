package once

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"

	"github.com/distributed-go/distributed/locker"
)

// GroupPrefix goes before the name of a Group, which "/" and the key follow: the
// key "42" of NewGroup[User](c, "users") is the lock "group/users/42" to the
// backend. A "/" in the name is written as %2F there, and a "%" as %25, so that no
// two names share keys. Who holds a lock of such a name excludes the Group.
const GroupPrefix = "group/"

// A Group runs a function one time for all who call it with the same key while it
// runs, in whatever process of the same backend, after
// golang.org/x/sync/singleflight. NewGroup makes one; its zero value is not usable.
// It is safe for concurrent use and must not be copied.
//
// The calls of one process join here, and one for each process asks the backend.
// That of x/sync could not do this: there a caller cannot give up, all callers of a
// panicking function panic, and who comes after the function has returned, but
// before its result was handed out, gets what is old already.
type Group[T any] struct {
	_        noCopy
	client   *locker.Client // nil if there was no NewGroup
	prefix   string         // of the backend's keys
	source   source
	settings settings
	waits    *locker.Acquirer // knows WithWait
	err      error            // what was wrong with the arguments of NewGroup

	mu    sync.Mutex
	lanes map[string]*lane[T] // of keys that something is known of; guarded by mu, as all in them
}

// A Result is what DoChan sends: what Do returns.
type Result[T any] struct {
	Val    T
	Err    error
	Shared bool
}

// NewGroup returns a Group with a name of its own for its keys. Everybody who uses
// a name must mean the same by it, and by T. What functions return goes through the
// Encoding, and must fit into a value of the backend, of 64 KiB unless the server
// says otherwise. Name and key have 248 bytes at most together, where "/" and "%"
// of the name count for 3. NewGroup does no I/O. It panics if
// the client is nil; a bad name or option is returned by the first use.
func NewGroup[T any](c *locker.Client, name string, opts ...Option) *Group[T] {
	if c == nil {
		panic("distributed: once.NewGroup with a nil Client")
	}
	g := &Group[T]{
		client: c, prefix: GroupPrefix + strings.NewReplacer("%", "%25", "/", "%2F").Replace(name) + "/",
		lanes: make(map[string]*lane[T]),
	}
	g.settings, g.err = newSettings(opts, "WithFresh", "WithResults", "WithEncoding", "WithLease")
	g.source = sourceOf(c, g.settings.store, "once.WithResults")
	if g.err = errors.Join(g.err, checkName(name, g.prefix)); g.err == nil {
		g.waits, g.err = c.Acquirer(request(g.prefix+"k"), g.settings.lease...)
		// Each caller bounds its own wait, and not that of those who come later.
		g.settings.lease = append(g.settings.lease, locker.WithWait(0))
	}
	return g
}

// checkName returns why a name is not one of a Group whose keys have the prefix.
func checkName(name, prefix string) error {
	most := locker.MaxKey - len(GroupPrefix+"/"+"k")
	if size := len(prefix) - len(GroupPrefix+"/"); size > most {
		return fmt.Errorf("%w: name of the Group of %d bytes, where / and %% count for 3: must have at most %d bytes, and fewer for long keys (hash what is longer)",
			locker.ErrInvalid, size, most)
	}
	if err := locker.CheckKey(name); err != nil {
		return fmt.Errorf("name of the Group: %w", err)
	}
	return nil
}

// Do returns what fn returns, and makes sure that only one call for the key runs at
// a time, here and everywhere: who comes while one runs gets the result of that.
// Nobody gets a result that had reached this process before it called, nor one that
// is older; see WithFresh for those who may. Shared says whether v was given to
// others of this process, too, or came from elsewhere.
//
// The context of fn has the values of the caller whose fn runs. It is cancelled when
// all callers of this process have given up, or when fn should end because the lease
// is about to be lost (its cause matches locker.ErrLost then). So when one ctx ends,
// its caller returns with that error and fn runs on for the others; an fn that does
// not look at its context outlives all. When whoever runs fn dies, or all its
// callers give up, or it loses its lease, exactly one of those who wait elsewhere
// runs its own fn.
//
// An error of fn goes to all who share the flight: as it is in the process that ran
// it, and as a *RemoteError in others. It is never kept. If fn panics, the caller
// whose fn it was panics with a *PanicError, if it is still there; the others get an
// error that matches ErrLeaderPanicked. If fn calls runtime.Goexit, so does its
// caller. If the lease is lost while fn runs the error matches locker.ErrLost, and
// v is what fn returned; nobody elsewhere gets it.
//
// The error matches locker.ErrTooLarge, and is a *locker.SizeError that names both
// sizes, if what fn returned is more than the backend takes, and v is what fn
// returned; others get the text of it. Where the backend has no room, cannot write,
// or does not answer within a second, v is returned without an error, and whoever
// waits elsewhere runs its own fn. So does who is cut off from the backend for longer
// than that keeps the result: for half the TTL of the lease, from 1 s to 15 s, or for
// the time of WithFresh if that is longer.
func (g *Group[T]) Do(ctx context.Context, key string, fn func(ctx context.Context) (T, error)) (v T, shared bool, err error) {
	f, first, err := g.board(ctx, key, fn)
	if err != nil {
		return v, false, err
	}
	o, err := g.await(ctx, f)
	switch {
	case err != nil:
		return v, false, err
	case first && o.panicked != nil:
		panic(o.panicked)
	case first && o.exited:
		runtime.Goexit()
	}
	return o.v, o.shared, o.err
}

// DoChan is Do for who does something else meanwhile. The channel gets the result
// when it is there, or when ctx has ended, and is not closed. A panic of fn is an
// error that matches ErrLeaderPanicked here.
func (g *Group[T]) DoChan(ctx context.Context, key string, fn func(ctx context.Context) (T, error)) <-chan Result[T] {
	ch := make(chan Result[T], 1)
	f, _, err := g.board(ctx, key, fn)
	if err != nil {
		ch <- Result[T]{Err: err}
		return ch
	}
	go func() {
		o, err := g.await(ctx, f)
		if err != nil {
			o = outcome[T]{err: err}
		}
		ch <- Result[T]{Val: o.v, Err: o.err, Shared: o.shared}
	}()
	return ch
}

// Forget makes later calls of this Group for the key have a result of their own:
// not that of a call which runs now, here or elsewhere, nor one that WithFresh
// kept. It does not end what runs. The next call waits for that to end, and runs
// its function then. Other processes are not told; and a key is remembered until
// that next call.
func (g *Group[T]) Forget(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.client == nil {
		panic("distributed: use of a zero Group: make one with NewGroup")
	}
	k := g.lane(key)
	k.forgotten = true
	if k.last != nil {
		k.last.closed = true
	}
}

// board returns the flight that a caller of the key is on. First says that it is
// the caller whose fn it is.
func (g *Group[T]) board(ctx context.Context, key string, fn func(context.Context) (T, error)) (f *flight[T], first bool, err error) {
	switch {
	case g.client == nil:
		panic("distributed: use of a zero Group: make one with NewGroup")
	case fn == nil:
		panic("distributed: a Group's Do with a nil function")
	}
	if err = g.err; err == nil && ctx.Err() != nil {
		err = ended(ctx)
	}
	if err != nil {
		return nil, false, g.fail(key, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if k := g.lanes[key]; k != nil && k.last != nil && !k.last.closed {
		k.last.callers++
		k.last.all++
		return k.last, false, nil
	}
	if f, err = g.newFlight(ctx, key); err != nil {
		return nil, false, g.fail(key, err)
	}
	f.fn = fn
	go g.fly(f)
	return f, true, nil
}

// fail wraps an error that says not yet what it is about.
func (g *Group[T]) fail(key string, err error) error {
	if _, says := err.(*locker.Error); says { //nolint:errorlint // one that is wrapped does not say it first
		return err
	}
	return &locker.Error{Op: "do", Key: g.prefix + key, Backend: g.client.Backend().String(), Err: err}
}

// await waits for the outcome of a flight for one caller, or for the end of its
// patience: that of WithWait is for others, and does not end while the function runs
// here.
func (g *Group[T]) await(ctx context.Context, f *flight[T]) (outcome[T], error) {
	wait, cancel := g.waits.Bound(ctx)
	defer cancel()
	select {
	case <-f.landed:
		return f.outcome, nil
	case <-wait.Done():
	}
	why := f.acquirer.Interrupted(wait, "do") // while the flight still tries
	running, left := g.leave(wait, f, ctx.Err() == nil)
	if !left {
		select {
		case <-f.landed:
			return f.outcome, nil
		case <-ctx.Done():
		}
		g.leave(ctx, f, false)
	}
	if running {
		why = g.fail(f.key, ended(ctx))
	}
	return outcome[T]{}, why
}
