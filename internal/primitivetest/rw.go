package primitivetest

import (
	"context"
	"time"

	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/mutex"
	"github.com/distributed-go/distributed/semaphore"
)

// rws makes an RW of one key for each client.
func (e *env) rws(key string) (all [processes]*mutex.RW) {
	for i, c := range e.clients {
		all[i] = mutex.NewRW(c, key)
	}
	return all
}

// readersShare: all read at once; a writer waits for all of them.
func readersShare(e *env) {
	rws := e.rws("k")
	for _, rw := range rws {
		e.ok(rw.RLockContext(e.ctx))
	}
	e.want(!rws[0].TryLock(), "nobody writes while others read")
	wrote := make(chan error, 1)
	go func() { wrote <- rws[0].LockContext(e.ctx) }()
	for i, rw := range rws {
		if i == len(rws)-1 {
			stays(e, wrote, "it writes while one reads")
		}
		rw.RUnlock()
	}
	e.ok(soon(e, wrote, "the writer's turn"))
	e.want(!rws[1].TryRLock(), "nobody reads while one writes")
	rws[0].Unlock()
	e.want(rws[1].TryRLock(), "the next may read")
	rws[1].RUnlock()
}

// writersExclude: what a writer changes in two steps no reader sees half.
func writersExclude(e *env) {
	rws := e.rws("k")
	var a, b int // guarded by rws
	var writers room
	e.each(4, func(p, g int) {
		rw := rws[p]
		for range 8 {
			if g == 0 {
				rw.Lock()
				writers.enter(1)
				a++
				time.Sleep(time.Millisecond)
				b++
				writers.leave(1)
				rw.Unlock()
				continue
			}
			rw.RLock()
			if a != b || writers.inside.Load() != 0 {
				e.Errorf("a reader sees %d, %d, with %d writers", a, b, writers.inside.Load())
			}
			rw.RUnlock()
		}
	})
	e.want(a == 8*processes && b == a && writers.most.Load() == 1, "every write counts")
}

// writersAreNotStarved: readers that come after a writer wait for it.
func writersAreNotStarved(e *env) {
	rws := e.rws("k")
	rws[0].RLock()
	wrote := make(chan error, 1)
	go func() { wrote <- rws[1].LockContext(e.ctx) }()
	e.eventually(1)
	e.want(!rws[2].TryRLock(), "a reader overtakes no writer")
	rws[0].RUnlock()
	e.ok(soon(e, wrote, "the writer's turn"))
	rws[1].Unlock()
}

// semaphores makes a Weighted of one key for each client.
func (e *env) semaphores(key string, limit int64) (all [processes]*semaphore.Weighted) {
	for i, c := range e.clients {
		all[i] = semaphore.New(c, key, limit)
	}
	return all
}

// semaphoreLimits: the weights of all never add up to more, and do to as much.
func semaphoreLimits(e *env) {
	const limit = 4
	all := e.semaphores("k", limit)
	var in room
	e.each(4, func(p, g int) {
		weight := int64(1 + g%3)
		for range 6 {
			err := all[p].Do(e.ctx, weight, func(context.Context) error {
				in.enter(weight)
				time.Sleep(time.Millisecond)
				in.leave(weight)
				return nil
			})
			if err != nil {
				e.Error(err)
			}
		}
	})
	e.want(in.most.Load() <= limit, "no more than the limit")
	e.want(in.most.Load() >= limit-1, "others are let in beside one")
}

// semaphoreInOrder: who wants much is not overtaken for ever by those who want
// little.
func semaphoreInOrder(e *env) {
	all := e.semaphores("k", 3)
	first, err := all[0].Acquire(e.ctx, 2)
	e.ok(err)
	heavy := make(chan *locker.Lease, 1)
	go func() {
		l, err := all[1].Acquire(e.ctx, 3)
		if err != nil {
			e.Error(err)
		}
		heavy <- l
	}()
	e.eventually(1)
	_, err = all[2].TryAcquire(e.ctx, 1)
	e.is(err, locker.ErrLocked, "a light one, behind a heavy one that waits")
	e.ok(first.Release(e.ctx))
	l := soon(e, heavy, "the heavy one's turn")
	e.want(l != nil, "the heavy one acquires")
	e.ok(l.Release(e.ctx))
}

func semaphoreLimitsAgree(e *env) {
	l, err := semaphore.New(e.clients[0], "k", 2).Acquire(e.ctx, 1)
	e.ok(err)
	_, err = semaphore.New(e.clients[1], "k", 3).Acquire(e.ctx, 1)
	e.is(err, locker.ErrLimitMismatch, "another limit")
	e.ok(l.Release(e.ctx))
	e.eventually(0)
}
