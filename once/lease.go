package once

import (
	"context"

	"github.com/distributed-go/distributed/locker"
)

// leaseKey is what the lease has in the context of a function.
type leaseKey struct{}

// LeaseOf returns the lease that a function of a Once, a Value or a Group runs
// under, given the context that it was called with, or one derived from that. It is
// nil for every other context, such as that of a caller who waits for what somebody
// else runs. Where one function calls Do of another, it is the lease of the inner one.
//
// It is there to be asked: for the fence, which the function puts beside what it
// writes, so that one that ignored the end of its context is refused; for Left, and
// for Check. Who called the function ends it, soon after that has returned: from then
// on Check says locker.ErrNotHeld. The function must not release it, hand it over or
// put a value under it. To release it is to lose it: what the function returns is not
// marked, or had by others, then.
func LeaseOf(ctx context.Context) *locker.Lease {
	l, _ := ctx.Value(leaseKey{}).(*locker.Lease)
	return l
}

// withLease returns the context for a function that runs under a lease.
func withLease(ctx context.Context, l *locker.Lease) context.Context {
	return context.WithValue(ctx, leaseKey{}, l)
}
