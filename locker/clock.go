package locker

import (
	"sync/atomic"
	"time"
)

// watchdog is how often the keeper looks at the clock while anything is held:
// timers stop while the machine sleeps, and run late by as long as it slept.
const watchdog = 250 * time.Millisecond

// A clock reads the time since a fixed instant. It never goes back, goes on
// while the machine is suspended where that can be known, and takes no part of
// the wall clock, so that setting the latter changes no deadline. It is an
// argument of the Client so that tests own it.
type clock func() time.Duration

// slept is for how long the machine was suspended, as far as this process has
// noticed: a number that only grows.
var slept atomic.Int64

func init() { slept.Store(suspended()) } // before the first clock was made, it is nobody's

// newClocks returns a clock that starts now, and the same one with noticeSleep
// before each reading, for little more than either costs alone. It is Go's monotonic clock, which stands
// still while the machine sleeps, and the sleep that noticeSleep has found.
// Read alone, CLOCK_BOOTTIME would do, but it costs a system call each time,
// and knows nothing of the virtual time of a testing/synctest bubble, which
// this clock follows when it is made inside one.
func newClocks() (now, wary clock) {
	start, before := time.Now(), slept.Load()
	elapsed := func(d time.Duration) time.Duration { return d + time.Duration(slept.Load()-before) }
	now = func() time.Duration { return elapsed(time.Since(start)) }
	wary = func() time.Duration {
		t := time.Now()
		noticeSleepAt(t)
		return elapsed(t.Sub(start))
	}
	return now, wary
}

// waryOf makes a wary clock of one that somebody else made.
func waryOf(c clock) clock {
	return func() time.Duration {
		noticeSleep()
		return c()
	}
}

// noticeSleep brings all clocks forward by what the machine has slept since the
// last time. It is called where a wrong belief would hurt: when a lease begins,
// is checked, worked under or released, and by the watchdog; and by backends with
// each reading of their clock.
//
// To ask the kernel takes two system calls, most of a microsecond. But a sleep
// moves the wall clock by as much, and a look at that takes a tenth, so the
// kernel is asked only when it has moved, for whatever reason: by a sleep, or
// because somebody set it.
func noticeSleep() { noticeSleepAt(time.Now()) }

func noticeSleepAt(now time.Time) {
	ahead := now.UnixNano() - origin.UnixNano() - int64(now.Sub(origin))
	if !suspicious(ahead - noticed.Load()) {
		return
	}
	askForSleep()
	noticed.Store(ahead)
}

var (
	// origin is an instant that both clocks of package time are compared with.
	origin = time.Now()

	// noticed is by how much the wall clock had moved ahead of the monotonic
	// one since origin, in nanoseconds, when the kernel was asked last.
	noticed atomic.Int64
)

// suspicious says whether the wall clock has moved by more than it is slewed in
// a few seconds.
func suspicious(moved int64) bool {
	return moved > int64(5*time.Millisecond) || moved < -int64(5*time.Millisecond)
}

func askForSleep() {
	for {
		known, now := slept.Load(), suspended()
		if now <= known || slept.CompareAndSwap(known, now) {
			return
		}
	}
}
