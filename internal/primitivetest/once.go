package primitivetest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/distributed-go/distributed/once"
)

// onces makes a Once of one key for each client.
func (e *env) onces(key string) (all [processes]*once.Once) {
	for i, c := range e.clients {
		all[i] = once.New(c, key, once.WithVolatile())
	}
	return all
}

// onceRunsOnce: one of all who call, and of those who call later.
func onceRunsOnce(e *env) {
	all := e.onces("k")
	var runs atomic.Int64
	f := func(context.Context) error {
		time.Sleep(e.ttl / 20)
		runs.Add(1)
		return nil
	}
	e.each(4, func(p, _ int) {
		if err := all[p].Do(e.ctx, f); err != nil {
			e.Error(err)
		}
		if runs.Load() != 1 {
			e.Errorf("Do returned, and %d have run", runs.Load())
		}
	})
	e.ok(once.New(e.open(), "k", once.WithVolatile()).Do(e.ctx, f))
	e.want(runs.Load() == 1, "it runs once")
}

// onceRunsAgain after an error: that is not done.
func onceRunsAgain(e *env) {
	all := e.onces("k")
	wrong := errors.New("wrong")
	e.is(all[0].Do(e.ctx, func(context.Context) error { return wrong }), wrong, "a Do that fails")
	ran := false
	e.ok(all[1].Do(e.ctx, func(context.Context) error { ran = true; return nil }))
	e.want(ran, "the next runs")
	e.ok(all[2].Do(e.ctx, func(context.Context) error { return wrong }))
}

// onceAfterACrash: whose process goes is followed by another.
func onceAfterACrash(e *env) {
	dying := e.open()
	began, over := make(chan struct{}), make(chan error, 1)
	go func() {
		over <- once.New(dying, "k", once.WithVolatile()).Do(e.ctx, func(ctx context.Context) error {
			close(began)
			<-ctx.Done()
			return nil // too late
		})
	}()
	soon(e, began, "the first begins")
	ran := make(chan error, 1)
	runs := 0
	go func() {
		ran <- e.onces("k")[1].Do(e.ctx, func(context.Context) error { runs++; return nil })
	}()
	e.eventually(1)
	e.ok(dying.Close())
	e.ok(soon(e, ran, "the next runs"))
	e.want(runs == 1, "the next runs once")
	e.want(soon(e, over, "the first ends") != nil, "who lost its lease has not done it")
}

// valueIsShared: all have what one computed.
func valueIsShared(e *env) {
	var runs atomic.Int64
	var all [processes]*once.Value[string]
	for i, c := range e.clients {
		all[i] = once.NewValue(c, "k", func(context.Context) (string, error) {
			return fmt.Sprint("run ", runs.Add(1)), nil
		}, once.WithVolatile())
	}
	e.each(3, func(p, _ int) {
		if v, err := all[p].Get(e.ctx); err != nil || v != "run 1" {
			e.Errorf("got %q, %v", v, err)
		}
	})
}

// groups makes a Group of one name for each client.
func (e *env) groups(name string) (all [processes]*once.Group[string]) {
	for i, c := range e.clients {
		all[i] = once.NewGroup[string](c, name)
	}
	return all
}

// groupShares: those who came while one ran have its result, in every process.
func groupShares(e *env) {
	all := e.groups("g")
	began, finish := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		_, _, err := all[0].Do(e.ctx, "k", func(context.Context) (string, error) {
			close(began)
			<-finish
			return "result", nil
		})
		first <- err
	}()
	soon(e, began, "the first begins")
	got := make(chan string, processes)
	for _, g := range all[1:] {
		go func() {
			v, shared, err := g.Do(e.ctx, "k", func(context.Context) (string, error) { return "another", nil })
			got <- fmt.Sprint(v, shared, err)
		}()
	}
	e.eventually(processes - 1)
	close(finish)
	e.ok(soon(e, first, "the first returns"))
	for range all[1:] {
		if v := soon(e, got, "the others return"); v != fmt.Sprint("result", true, nil) {
			e.Errorf("one got %s", v)
		}
	}
}

// groupForgets: nobody has the result of a call that was over before.
func groupForgets(e *env) {
	var runs atomic.Int64
	for i, g := range e.groups("g") {
		v, _, err := g.Do(e.ctx, "k", func(context.Context) (string, error) { return fmt.Sprint(runs.Add(1)), nil })
		e.ok(err)
		e.want(v == fmt.Sprint(i+1), "each call computes anew")
	}
}
