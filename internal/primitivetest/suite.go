// Package primitivetest is what the primitives promise, as tests that run on any
// backend which can carry them: several clients, as of several processes, share a
// Mutex, an RWMutex, a Semaphore, a Once, a Value and a Group. The tests of the
// primitives themselves are in their packages, on the backend in memory; those of a
// backend are lockertest's. This suite is for what may still go wrong between the
// two.
package primitivetest

import (
	"context"
	"errors"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// A Harness says how to reach a backend.
type Harness struct {
	// Start starts an empty server for one case, and returns what makes a client of
	// it, as another process would have. It ends both with t.Cleanup, the clients
	// first. The clients' TTL is TTL.
	Start func(t *testing.T) (client func() *locker.Client)

	// Bubble runs each case in a testing/synctest bubble.
	Bubble bool

	// TTL is a short lease that the backend can grant.
	TTL time.Duration
}

// processes is how many clients a case has.
const processes = 3

// patience is how long a case waits for what should happen soon.
const patience = 30 * time.Second

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	t.Helper()
	for _, f := range []func(*env){
		mutexExcludes, mutexTries, mutexGivesUp, mutexOutlivesItsTTL, mutexPassesWithItsProcess, mutexIsRevoked, mutexTickets, mutexFences,
		readersShare, writersExclude, writersAreNotStarved,
		semaphoreLimits, semaphoreInOrder, semaphoreLimitsAgree,
		onceRunsOnce, onceRunsAgain, onceAfterACrash, valueIsShared,
		groupShares, groupForgets,
	} {
		t.Run(nameOf(f), func(t *testing.T) {
			run := func(t *testing.T) { h.run(t, f) }
			if h.Bubble {
				synctest.Test(t, run)
				return
			}
			t.Parallel()
			run(t)
		})
	}
}

func (h *Harness) run(t *testing.T, f func(*env)) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	e := &env{T: t, ctx: ctx, ttl: h.TTL, open: h.Start(t)}
	for i := range e.clients {
		e.clients[i] = e.open()
	}
	f(e)
}

// nameOf names a case after its function.
func nameOf(f any) string {
	name := runtime.FuncForPC(reflect.ValueOf(f).Pointer()).Name()
	return name[strings.LastIndexByte(name, '.')+1:]
}

// env is what a case works with.
type env struct {
	*testing.T
	ctx     context.Context
	ttl     time.Duration
	open    func() *locker.Client
	clients [processes]*locker.Client
}

// ok ends the case on an error.
func (e *env) ok(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

// is checks that an error matches.
func (e *env) is(err, want error, what string) {
	e.Helper()
	if !errors.Is(err, want) {
		e.Fatalf("%s: got error %v, want one matching %q", what, err, want)
	}
}

// want checks a condition.
func (e *env) want(ok bool, what string) {
	e.Helper()
	if !ok {
		e.Fatalf("not so: %s", what)
	}
}

// soon waits for a channel to give something, or to close.
func soon[T any](e *env, ch <-chan T, what string) (v T) {
	e.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		e.Fatalf("waited %v in vain for: %s", patience, what)
	}
	return v
}

// stays checks that a channel gives nothing for a while.
func stays[T any](e *env, ch <-chan T, what string) {
	e.Helper()
	select {
	case <-ch:
		e.Fatalf("too early: %s", what)
	case <-time.After(e.ttl / 10):
	}
}

// waiters counts those who wait at the backend.
func (e *env) waiters() (n int) {
	e.Helper()
	r, err := e.clients[0].Inspect(e.ctx)
	e.ok(err)
	for _, k := range r.Keys {
		n += k.Waiters
	}
	return n
}

// eventually waits until so many wait.
func (e *env) eventually(waiters int) {
	e.Helper()
	for end := time.Now().Add(patience); e.waiters() != waiters; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			e.Fatalf("%d wait, want %d", e.waiters(), waiters)
		}
	}
}

// each calls f for every client at the same time, in so many goroutines.
func (e *env) each(goroutines int, f func(process, goroutine int)) {
	var wg sync.WaitGroup
	for p := range e.clients {
		for g := range goroutines {
			wg.Go(func() { f(p, g) })
		}
	}
	wg.Wait()
	if e.Failed() {
		e.FailNow()
	}
}

// A room counts who is in it.
type room struct{ inside, most atomic.Int64 }

// enter adds a weight, and leave takes it away.
func (r *room) enter(n int64) {
	now := r.inside.Add(n)
	for {
		most := r.most.Load()
		if now <= most || r.most.CompareAndSwap(most, now) {
			return
		}
	}
}

func (r *room) leave(n int64) { r.inside.Add(-n) }
