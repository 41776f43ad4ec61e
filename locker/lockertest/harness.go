// Package lockertest is the suite that every locker.Backend passes: run it on
// yours. Its cases are what users of lock libraries have lost locks to: two
// goroutines of one session both let in, waits that leak a grant when they are
// cancelled, renewals that bring back the dead, losses that nobody is told of.
//
//	func TestBackend(t *testing.T) {
//		lockertest.Run(t, lockertest.Harness{
//			Start: func(t *testing.T) lockertest.Env {
//				s := startMyServer(t)
//				return lockertest.Env{Backend: func() locker.Backend { return dial(t, s) }}
//			},
//			TTL: time.Second,
//		})
//	}
package lockertest

import (
	"context"
	"errors"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// A Harness says how to reach the backend under test, and what it can do. What
// it cannot do must be refused with errors.ErrUnsupported: that is tested
// instead; nothing is skipped.
type Harness struct {
	// Start starts an empty server, or whatever stands for it, for one case,
	// and ends it with t.Cleanup.
	Start func(t *testing.T) Env

	// Bubble runs each case in a testing/synctest bubble, in virtual time. It
	// is for backends without I/O.
	Bubble bool

	// TTL is a short lease that the backend can grant; cases take a few of
	// them. It must be a second at least where the backend knows whole seconds
	// only.
	TTL time.Duration

	// Fences, Semaphores, Weights and Queue say what the backend can do.
	Fences     bool
	Semaphores bool
	Weights    bool // implies Semaphores
	Queue      bool // it is a locker.Queuer

	// HandOver says that a grant can take several fences, Force that it is a
	// locker.Forcer whose victims hear at once that they were revoked, and
	// Holders that a try that fails says who holds the key. A backend may do
	// more than these say, but what it does is tested.
	HandOver, Force, Holders bool

	// Values says that the backend is a locker.Joiner, and so a locker.Publisher,
	// all of whose servers keep values. Without it a backend may be one, but must
	// refuse what is asked of it.
	Values bool

	// Keeps says that the backend keeps its holds alive by itself, as
	// Grant.Kept says: then no renewals of the Client are to be seen.
	Keeps bool
}

// An Env is a server for one case.
type Env struct {
	// Backend returns a new backend that reaches the server, as another
	// process would have. The case closes it.
	Backend func() locker.Backend

	// Disconnect breaks the connection that the holds of b depend on, from
	// outside. Nil if holds depend on nothing but their TTL.
	Disconnect func(b locker.Backend)

	// Freeze makes the server stop answering, without closing connections,
	// until Thaw. Every backend must have them: any server can stop answering.
	// Where it is a process send it SIGSTOP and SIGCONT; else let connections
	// go through a proxy that holds back what the server says.
	Freeze, Thaw func()

	// Residue counts the holders and waiters that the server knows of. Nil if
	// the backend is a locker.Inspector, which is asked then; a server that
	// cannot say must count what it can.
	Residue func() (holders, waiters int)
}

// patience is how long a case waits for what should happen soon: generous,
// because machines are slow and this is no benchmark.
const patience = 20 * time.Second

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	t.Helper()
	if h.Start == nil || h.TTL <= 0 {
		t.Fatal("lockertest: the Harness needs Start, and a TTL above 0")
	}
	for _, f := range []func(*env){
		exclusion, sharedClient, kindsApart, manyHolds,
		try, fifo, waitOver,
		twoPhase, twoPhaseCancel, twoPhaseExpires,
		expiry, renewal, lossByDisconnect, lossByFreeze, maxHold,
		cancelLeaksNothing, cancelledBefore,
		limit, limitMismatch, weights,
		fences, handOver, force, forceMany, heldError, releaseInAFreeze,
		misuse, badRequests, closing,
		putByHolder, putTooLate, values, valueExpires, valueSize, valueRemoved, putInAFreeze,
		joinLeads, joinAnswered, joinFresh, joinHandsOver, joinLeaderDies, joinInOrder,
		joinCancelLeaksNothing, joinCloses,
	} {
		t.Run(nameOf(f), func(t *testing.T) {
			run := func(t *testing.T) { newEnv(t, h).run(f) }
			if h.Bubble {
				synctest.Test(t, run)
				return
			}
			t.Parallel() // cases mostly wait for leases to run out
			run(t)
		})
	}
}

// nameOf names a case after its function.
func nameOf(f any) string {
	name := runtime.FuncForPC(reflect.ValueOf(f).Pointer()).Name()
	return name[strings.LastIndexByte(name, '.')+1:]
}

// env is what a case works with.
type env struct {
	*testing.T
	Harness
	Env
	ctx     context.Context
	clients []*locker.Client
}

func newEnv(t *testing.T, h Harness) *env {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return &env{T: t, Harness: h, Env: h.Start(t), ctx: ctx}
}

// run runs a case and then checks that nothing is left of it.
func (e *env) run(f func(*env)) {
	defer e.closeClients() // also when the case has failed: in a bubble, what they leave is a deadlock
	f(e)
	e.residue("after the case, before its clients are closed")
}

func (e *env) closeClients() {
	for _, c := range e.clients {
		if err := c.Close(); err != nil {
			e.Errorf("close: %v", err)
		}
	}
}

// client returns a new client, as another process would have.
func (e *env) client(opts ...locker.Option) *locker.Client {
	c := locker.New(e.Env.Backend(), append([]locker.Option{locker.WithTTL(e.TTL)}, opts...)...)
	e.clients = append(e.clients, c)
	return c
}

// backend returns a bare backend, for what a Client would hide.
func (e *env) backend() locker.Backend {
	b := e.Env.Backend()
	e.Cleanup(func() { b.Close() })
	return b
}

// lock is a request for an exclusive lease.
func (e *env) lock(key string) locker.Request {
	return locker.Request{Kind: locker.Exclusive, Key: key, Limit: 1, Weight: 1, TTL: e.TTL}
}

// acquire acquires or ends the case.
func (e *env) acquire(c *locker.Client, key string) *locker.Lease {
	e.Helper()
	l, err := c.Acquire(e.ctx, key)
	e.ok(err)
	return l
}

func (e *env) release(l *locker.Lease) {
	e.Helper()
	e.ok(l.Release(e.ctx))
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

// residue waits until the server knows of no holder and no waiter.
func (e *env) residue(when string) {
	e.Helper()
	e.eventually(func() bool { return e.counts(0, 0) }, when+": no holder and no waiter")
}

// counts says whether the server knows of so many holders and waiters; -1 is
// any number.
func (e *env) counts(holders, waiters int) bool {
	h, w := e.count()
	return (holders < 0 || h == holders) && (waiters < 0 || w == waiters)
}

func (e *env) count() (holders, waiters int) {
	if e.Residue != nil {
		return e.Residue()
	}
	b := e.Env.Backend()
	defer b.Close()
	i, ok := b.(locker.Inspector)
	if !ok {
		e.Fatal("the harness has no Residue, and the backend is no locker.Inspector")
	}
	r, err := i.Inspect(e.ctx)
	e.ok(err)
	for _, k := range r.Keys {
		holders += k.Holders
		waiters += k.Waiters
	}
	return holders, waiters
}

// eventually waits for a condition.
func (e *env) eventually(cond func() bool, what string) {
	e.Helper()
	for end := time.Now().Add(patience); !cond(); {
		if time.Now().After(end) {
			h, w := e.count()
			e.Fatalf("waited %v in vain for: %s (%d holders, %d waiters)", patience, what, h, w)
		}
		time.Sleep(5 * time.Millisecond) // polling a server that has no such event
	}
}

// closes waits for a channel to close.
func (e *env) closes(ch <-chan struct{}, what string) {
	e.Helper()
	select {
	case <-ch:
	case <-time.After(patience):
		e.Fatalf("waited %v in vain for: %s", patience, what)
	}
}
