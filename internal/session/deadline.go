package session

import (
	"math"
	"time"
)

const (
	// driftDivisor takes 1 % off a lease for clocks that run at different
	// rates: twenty times what the kernel's clock discipline may slew.
	driftDivisor = 100
	// quantum is taken off a lease too, for the resolution of clocks.
	quantum = 2 * time.Millisecond
)

// Deadline is the instant until which a client may believe in a lease that
// counts from stamp, an instant before the request was handed to be sent. It is
// the rule of package locker; the tests of both pin the same numbers.
func Deadline(stamp, ttl time.Duration) time.Duration {
	d := ttl - ttl/driftDivisor - quantum
	if d > math.MaxInt64-1-stamp {
		return math.MaxInt64 - 1
	}
	return stamp + d
}
