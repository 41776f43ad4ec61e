package primitivetest

import (
	"context"
	"time"

	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/mutex"
)

// mutexes makes a Mutex of one key for each client.
func (e *env) mutexes(key string, opts ...locker.Option) (all [processes]*mutex.Mutex) {
	for i, c := range e.clients {
		all[i] = mutex.New(c, key, opts...)
	}
	return all
}

// mutexExcludes: processes, and goroutines that share a Mutex, in all the ways to
// lock it.
func mutexExcludes(e *env) {
	const goroutines, rounds = 4, 12
	mus := e.mutexes("k")
	counter := 0 // unguarded on purpose: the race detector watches it too
	var in room
	work := func() {
		in.enter(1)
		counter++
		in.leave(1)
	}
	e.each(goroutines, func(p, g int) {
		mu := mus[p]
		for range rounds {
			switch g % 2 {
			case 0:
				mu.Lock()
				work()
				mu.Unlock()
			default:
				if err := mu.Do(e.ctx, func(context.Context) error { work(); return nil }); err != nil {
					e.Error(err)
				}
			}
		}
	})
	e.want(in.most.Load() == 1, "one at a time")
	e.want(counter == processes*goroutines*rounds, "no increment is lost")
}

func mutexTries(e *env) {
	mus := e.mutexes("k")
	e.want(mus[0].TryLock(), "the first try succeeds")
	e.want(!mus[1].TryLock(), "another process does not get it")
	e.want(!mus[0].TryLock(), "another goroutine does not get it")
	e.is(mus[1].TryLockContext(e.ctx), locker.ErrLocked, "a try at a held key")
	mus[0].Unlock()
	e.want(mus[1].TryLock(), "it is free when it was unlocked")
	mus[1].Unlock()
}

// mutexGivesUp: who gives up leaves no place behind.
func mutexGivesUp(e *env) {
	mus := e.mutexes("k")
	mus[0].Lock()
	ctx, cancel := context.WithTimeout(e.ctx, e.ttl/10)
	defer cancel()
	err := mus[1].LockContext(ctx)
	e.is(err, context.DeadlineExceeded, "a wait that ended")
	e.is(err, locker.ErrLocked, "a wait that ended")
	e.eventually(0)
	mus[0].Unlock()
	e.ok(mus[2].LockContext(e.ctx))
	mus[2].Unlock()
}

// mutexOutlivesItsTTL: who works holds.
func mutexOutlivesItsTTL(e *env) {
	mus := e.mutexes("k")
	e.ok(mus[0].Do(e.ctx, func(ctx context.Context) error {
		for range 15 {
			time.Sleep(e.ttl / 10)
			if mus[1].TryLock() {
				e.Error("another process got in")
				mus[1].Unlock()
			}
		}
		return ctx.Err()
	}))
}

// mutexPassesWithItsProcess: a Client that is closed gives its locks back.
func mutexPassesWithItsProcess(e *env) {
	dying := e.open()
	mutex.New(dying, "k").Lock()
	locked := make(chan error, 1)
	mu := e.mutexes("k")[1]
	go func() { locked <- mu.LockContext(e.ctx) }()
	e.eventually(1)
	e.ok(dying.Close())
	e.ok(soon(e, locked, "the next one locks"))
	mu.Unlock()
}

// mutexIsRevoked: whose lock was taken away is told, and what it did is reported as
// done without the lock.
func mutexIsRevoked(e *env) {
	mus := e.mutexes("k")
	began, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- mus[0].Do(e.ctx, func(ctx context.Context) error {
			close(began)
			<-ctx.Done()
			return nil
		})
	}()
	soon(e, began, "it is locked")
	n, err := e.clients[1].Force(e.ctx, locker.Exclusive, "k")
	e.ok(err)
	e.want(n == 1, "one holder is forced out")
	e.is(soon(e, done, "who lost it is told"), locker.ErrRevoked, "Do")
	e.ok(mus[2].LockContext(e.ctx))
	mus[2].Unlock()
}

// mutexTickets: two phases.
func mutexTickets(e *env) {
	mus := e.mutexes("k")
	mus[0].Lock()
	ticket, err := mus[1].Enqueue(e.ctx)
	e.ok(err)
	e.want(!ticket.Acquired(), "the ticket has to wait")
	later := make(chan error, 1)
	go func() { later <- mus[2].LockContext(e.ctx) }()
	e.eventually(2)
	mus[0].Unlock()
	e.ok(ticket.Wait(e.ctx))
	stays(e, later, "who came after the ticket locks")
	mus[1].Unlock()
	e.ok(soon(e, later, "who came after the ticket locks"))
	mus[2].Unlock()
}

// mutexFences grow from one process to the next.
func mutexFences(e *env) {
	mus := e.mutexes("k")
	last := uint64(0)
	for i := range 3 * processes {
		mu := mus[i%processes]
		mu.Lock()
		f, ok := mu.Lease().Fence()
		e.want(ok && f > last, "the fence grows")
		last = f
		mu.Unlock()
	}
}
