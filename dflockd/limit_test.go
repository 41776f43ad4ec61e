package dflockd

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// sluggish is a server in session mode that answers the releases of some keys
// only after slowness.
func sluggish(s *script, number int) {
	s.next() // hello
	s.say(fmt.Sprintf("ok 1 %032x", number))
	for {
		id, request, _ := strings.Cut(s.next(), " ")
		command, rest, _ := strings.Cut(request, "|")
		switch {
		case command == "":
			return
		case command == "l":
			s.say(id + " ok " + token(number) + " 60000ms")
		case command == "r" && strings.HasPrefix(rest, "slow"):
			time.AfterFunc(slowness, func() { s.say(id + " ok") })
		default:
			s.say(id + " ok")
		}
	}
}

const slowness = 5 * time.Second

// Who releases within a time gets as much of it as is needed, to the moment, for
// any number of them and in any order; and is not woken twice by a late answer.
func TestReleaseWithin(t *testing.T) {
	scriptBubble(t, sluggish, func(t *testing.T, b *Backend, _ *network) {
		clock := clockOf()
		b.UseClock(clock)
		type outcome struct {
			want, took time.Duration
			err        error
		}
		var waits []chan outcome
		release := func(key string, d, want time.Duration) {
			h := hold(key, mustAcquire(t, b, lock(key)))
			done := make(chan outcome, 1)
			waits = append(waits, done)
			go func() {
				began := time.Now()
				err := b.ReleaseWithin(clock(), d, h)
				done <- outcome{want, time.Since(began), err}
			}()
		}
		for i := range 3 {
			release("quick", time.Second, 0)
			release(fmt.Sprint("slow", i), 2*time.Second, 2*time.Second)
			release(fmt.Sprint("slow", i, "b"), time.Second, time.Second)
			release(fmt.Sprint("slow", i, "c"), time.Minute, slowness)
			release(fmt.Sprint("slow", i, "d"), 0, 0)
			time.Sleep(600 * time.Millisecond)
		}
		for i, done := range waits {
			o := <-done
			if late := o.took - o.want; late < 0 || late > time.Millisecond {
				t.Errorf("%d: it took %v, want %v", i, o.took, o.want)
			}
			if answered := i%5 == 0 || i%5 == 3; answered && o.err != nil {
				t.Errorf("%d: %v", i, o.err)
			} else if !answered {
				wantErr(t, o.err, context.DeadlineExceeded)
			}
		}
		time.Sleep(2 * slowness) // the late answers
		for range 3 * len(waits) {
			mustRelease(t, b, hold("quick", mustAcquire(t, b, lock("quick")))) // by asks that were used before
		}
		x := b.servers[0].talk.Load()
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.limits.first != nil || x.limits.last != nil {
			t.Error("limits are left")
		}
	})
}

// The time is over also while there is no link, and the end of the session ends
// the wait.
func TestReleaseWithinAnOutage(t *testing.T) {
	scriptBubble(t, func(s *script, number int) {
		s.next()
		if number > 1 {
			return // from here on it hangs up at hello
		}
		s.say(fmt.Sprintf("ok 1 %032x", number))
		s.next()
		s.say("1 ok " + token(number) + " 60000ms")
		s.next() // the release
	}, func(t *testing.T, b *Backend, _ *network) {
		clock := clockOf()
		b.UseClock(clock)
		h := hold("k", mustAcquire(t, b, lock("k")))
		began := time.Now()
		wantErr(t, b.ReleaseWithin(clock(), time.Second, h), context.DeadlineExceeded)
		if took := time.Since(began); took != time.Second {
			t.Errorf("it took %v", took)
		}
	})
	scriptBubble(t, sluggish, func(t *testing.T, b *Backend, _ *network) {
		clock := clockOf()
		b.UseClock(clock)
		h := hold("slow", mustAcquire(t, b, lock("slow")))
		x := b.servers[0].talk.Load()
		time.AfterFunc(time.Second, func() { x.end(reasonClosed) })
		wantErr(t, b.ReleaseWithin(clock(), time.Minute, h), locker.ErrNotHeld)
	})
}
