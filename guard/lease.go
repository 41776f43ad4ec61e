package guard

// A Lease is what a guard has to know of a hold. *locker.Lease is one.
type Lease interface {
	// Key returns the key that is held.
	Key() string
	// Fence returns the fence of the hold, and false if it has none.
	Fence() (uint64, bool)
}

// A checker is a lease that knows whether it is still held, as *locker.Lease
// does.
type checker interface{ Check() error }

// FenceOf returns the fence of a lease, and an error matching ErrNoFence if it
// has none. If the lease has a method Check() error, as *locker.Lease has, that
// is called first and its error returned: a write that would be refused need not
// be sent.
func FenceOf(l Lease) (uint64, error) {
	if l == nil {
		return 0, ErrNoFence
	}
	if c, ok := l.(checker); ok {
		if err := c.Check(); err != nil {
			return 0, err
		}
	}
	fence, ok := l.Fence()
	if !ok {
		fence = 0
	}
	return fence, usable(l.Key(), fence)
}
