package memory

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/distributed-go/distributed/locker"
)

func TestInspect(t *testing.T) {
	bubble(t, func(w *world) {
		a, b := w.client(), w.client()
		w.release(a, slots("idle", 2, 1), w.get(a, slots("idle", 2, 1)))
		w.release(a, lock("idle"), w.get(a, lock("idle")))
		time.Sleep(second)
		w.get(b, lock("k"))
		w.waiting(w.ctx, a, lock("k"))
		w.get(a, slots("k", 5, 3))
		w.get(b, slots("k", 5, 2))
		w.waiting(w.ctx, b, slots("k", 5, 1))
		w.waiting(w.ctx, b, slots("k", 5, 1))
		time.Sleep(second)
		r, err := a.Inspect(w.ctx)
		w.is(err, nil, "inspect")
		want := []locker.KeyReport{
			{Kind: "lock", Key: "idle", Limit: 1, Idle: 2 * second},
			{Kind: "lock", Key: "k", Limit: 1, Holders: 1, Waiters: 1, Owner: fmt.Sprint(b.session.owner.ID()), HeldFor: second, ExpiresIn: ttl - second},
			{Kind: "semaphore", Key: "idle", Idle: 2 * second},
			{Kind: "semaphore", Key: "k", Limit: 5, Holders: 2, Waiters: 2},
		}
		if r.Connections != 2 || !reflect.DeepEqual(r.Keys, want) {
			t.Errorf("report %+v\nwant 2 connections and %+v", r, want)
		}
	})
}

func TestInspectAnEmptyServer(t *testing.T) {
	bubble(t, func(w *world) {
		r, err := w.client().Inspect(w.ctx)
		w.is(err, nil, "inspect")
		if r.Connections != 1 || len(r.Keys) != 0 {
			t.Errorf("report %+v", r)
		}
	})
}

// Values are shown whether their key is held or idle, and when it is there for its
// value alone.
func TestInspectValues(t *testing.T) {
	bubble(t, func(w *world) {
		a := w.client()
		for _, key := range []string{"held", "idle"} {
			g := w.get(a, lock(key))
			w.put(a, hold(lock(key), g), "data", 0)
			w.release(a, lock(key), g)
		}
		time.Sleep(time.Hour)
		w.put(a, hold(lock("held"), w.get(a, lock("held"))), "", 0)
		time.Sleep(second)
		r, err := a.Inspect(w.ctx)
		w.is(err, nil, "inspect")
		want := []locker.KeyReport{
			{Kind: "lock", Key: "held", Limit: 1, Holders: 1, Owner: fmt.Sprint(a.session.owner.ID()), HeldFor: second, ExpiresIn: ttl - second, Value: &locker.ValueReport{Age: second}},
			{Kind: "lock", Key: "idle", Limit: 1, Value: &locker.ValueReport{Bytes: 4, Age: time.Hour + second}},
		}
		if !reflect.DeepEqual(r.Keys, want) {
			t.Errorf("report %+v\nwant %+v", r.Keys, want)
		}
	})
}
