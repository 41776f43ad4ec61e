package locker

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestClockGoesOnWhileTheMachineSleeps, by what noticeSleep finds, and never
// goes back.
func TestClockGoesOnWhileTheMachineSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newClocks()
		time.Sleep(time.Second) // virtual
		if got := c(); got != time.Second {
			t.Fatalf("a clock says %v after a second", got)
		}
		defer slept.Store(slept.Load())
		slept.Add(int64(5 * time.Second))
		if got := c(); got != 6*time.Second {
			t.Errorf("it says %v after 5 s of sleep", got)
		}
		if later, wary := newClocks(); later() != 0 || wary() != 0 {
			t.Errorf("a clock made after the sleep says %v, and %v", later(), wary())
		}
		noticeSleep() // finds less than was put there
		if got := c(); got != 6*time.Second {
			t.Errorf("it went back to %v", got)
		}
	})
}

// TestSuspendedGrowsWithNothing: the two clocks of a machine that does not sleep
// differ by a constant, and neither reading order nor load makes that grow.
func TestSuspendedGrowsWithNothing(t *testing.T) {
	before := suspended()
	var most int64
	for range 20_000 {
		most = max(most, suspended())
	}
	if grown := time.Duration(most - before); grown > 100*time.Millisecond {
		t.Errorf("suspended for %v meanwhile, on a machine that runs this test", grown)
	}
}

// sleeper is a clock that can be put forward as a suspend does: its timers know
// nothing of it.
type sleeper struct {
	real  clock
	ahead atomic.Int64
}

func (s *sleeper) now() time.Duration { return s.real() + time.Duration(s.ahead.Load()) }

// TestLossAfterASuspend is told within the period of the watchdog, by Check at
// once.
func TestLossAfterASuspend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now, _ := newClocks()
		s := &sleeper{real: now}
		c := New(lonely{}, WithTTL(time.Minute), withClock(s.now))
		defer c.Close()
		told, err := c.Acquire(t.Context(), "told")
		if err != nil {
			t.Fatal(err)
		}
		asked, err := c.Acquire(t.Context(), "asked")
		if err != nil {
			t.Fatal(err)
		}
		lost := told.Lost()
		time.Sleep(time.Second)
		s.ahead.Store(int64(2 * time.Minute))
		resumed := time.Now()
		if err := asked.Check(); err == nil {
			t.Error("Check says held after a suspend of twice the TTL")
		}
		<-lost
		if late := time.Since(resumed); late > watchdog {
			t.Errorf("Lost closed %v after the machine woke, want %v at most", late, watchdog)
		}
	})
}

// TestSleepIsAskedForWhenTheWallClockMoves, and only then: it is cheap to notice
// that nothing happened.
func TestSleepIsAskedForWhenTheWallClockMoves(t *testing.T) {
	noticeSleep()
	for range 1000 {
		before := noticed.Load()
		noticeSleep()
		if after := noticed.Load(); after != before && !suspicious(after-before) {
			t.Fatalf("the kernel was asked because the wall clock had moved by %v", time.Duration(after-before))
		}
	}
	for _, moved := range []time.Duration{-time.Hour, -6 * time.Millisecond, 6 * time.Millisecond, time.Hour} {
		before := noticed.Add(-int64(moved)) // as if it had moved since
		noticeSleep()
		if got := time.Duration(noticed.Load() - before); suspicious(int64(got - moved)) {
			t.Errorf("the wall clock moved by %v, and %v were noticed", moved, got)
		}
	}
}

func BenchmarkNoticeSleep(b *testing.B) {
	for b.Loop() {
		noticeSleep()
	}
}

func BenchmarkSuspended(b *testing.B) {
	for b.Loop() {
		suspended()
	}
}
