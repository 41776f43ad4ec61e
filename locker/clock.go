package locker

import "time"

// A clock reads the time since a fixed instant. It never goes back and takes
// no part of the wall clock, so that setting the latter changes no deadline.
// It is an argument of the Client so that tests own it.
type clock func() time.Duration

// monotonic returns a clock that starts now. It follows the virtual time of a
// testing/synctest bubble when it is made inside one.
func monotonic() clock {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}
