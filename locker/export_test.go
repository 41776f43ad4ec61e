package locker

import "time"

// WithClock replaces the clock of a Client.
func WithClock(c func() time.Duration) Option { return withClock(c) }
