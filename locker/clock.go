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

// newClock returns a clock that starts now: Go's monotonic clock, which stands
// still while the machine sleeps, and the sleep that noticeSleep has found.
// Read alone, CLOCK_BOOTTIME would do, but it costs a system call each time,
// and knows nothing of the virtual time of a testing/synctest bubble, which
// this clock follows when it is made inside one.
func newClock() clock {
	start, before := time.Now(), slept.Load()
	return func() time.Duration { return time.Since(start) + time.Duration(slept.Load()-before) }
}

// noticeSleep brings all clocks forward by what the machine has slept since the
// last time. It is called where a wrong belief would hurt: when a lease is
// checked, and by the watchdog.
func noticeSleep() {
	for {
		known, now := slept.Load(), suspended()
		if now <= known || slept.CompareAndSwap(known, now) {
			return
		}
	}
}
