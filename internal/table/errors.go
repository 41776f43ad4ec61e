package table

import "errors"

// The reasons to refuse a request. They are returned as they are, so that a
// server can map them to answers without a search.
var (
	// ErrLocked says that the lease would have to wait, and the request was a
	// try or had no time left to wait.
	ErrLocked = errors.New("table: held by somebody else")

	// ErrLimitMismatch says that the semaphore is known with another limit.
	ErrLimitMismatch = errors.New("table: another limit is in force")

	// ErrTooManyKeys says that Config.MaxKeys keys are in use.
	ErrTooManyKeys = errors.New("table: too many keys")

	// ErrTooManyWaiters says that Config.MaxWaiters leases wait for the key.
	ErrTooManyWaiters = errors.New("table: too many waiters")

	// ErrWeight says that a weight is below 1 or above the limit, so that it
	// could never be granted, or above MaxWeight.
	ErrWeight = errors.New("table: weight is not between 1 and the limit")

	// ErrFences says that a negative number of fences was asked for, or more
	// than MaxFences.
	ErrFences = errors.New("table: too many fences")

	// ErrTTL says that a lease of no or negative length was asked for.
	ErrTTL = errors.New("table: TTL is not positive")

	// ErrNotHeld says that no lease that is out has this key and token.
	ErrNotHeld = errors.New("table: not held")

	// ErrTooManyReleases says that in the grace so many leases were released that
	// nobody had claimed that no more of them can be kept in mind.
	ErrTooManyReleases = errors.New("table: too many releases of leases that were not claimed")

	// ErrValueTooLarge says that a value has more than Table.MaxValue bytes.
	ErrValueTooLarge = errors.New("table: value too large")

	// ErrValuesFull says that all values would count for more than
	// Config.MaxValues.
	ErrValuesFull = errors.New("table: no room for more values")

	// ErrNoFence says that the ceiling leaves no fence for a put.
	ErrNoFence = errors.New("table: no fence below the ceiling")

	// ErrExpired says that the lease ran out before it was collected.
	ErrExpired = errors.New("table: lease expired")
)
