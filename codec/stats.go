package codec

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// ServerStats is the report that answers Stats. Its fields carry dflockd's
// names in JSON, and unknown ones are ignored.
type ServerStats struct {
	// Connections counts the clients' connections, the asking one included.
	Connections int `json:"connections"`
	// Locks lists the locks that are held.
	Locks []LockStats `json:"locks"`
	// Semaphores lists the semaphores of which a slot is held.
	Semaphores []SemaphoreStats `json:"semaphores"`
	// IdleLocks and IdleSemaphores list the keys that nobody holds and that
	// the server has not forgotten yet.
	IdleLocks      []IdleStats `json:"idle_locks"`
	IdleSemaphores []IdleStats `json:"idle_semaphores"`
	// State is "ready", "grace" while a server that was restarted grants nothing,
	// "stalled" while its disk does not answer, "draining" while one that is
	// stopped grants nothing, or "failed" if the disk did under what needs it. GraceEndsS is when the grace ends, in seconds. Other
	// servers than this project's say neither.
	State      string  `json:"state,omitempty"`
	GraceEndsS float64 `json:"grace_ends_s,omitempty"`
}

// LockStats is what the server knows of a lock that is held.
type LockStats struct {
	Key string `json:"key"`
	// OwnerConnID is the number of the connection that the lock was granted on.
	OwnerConnID uint64 `json:"owner_conn_id"`
	// LeaseExpiresInS is what is left of the lease, in seconds.
	LeaseExpiresInS float64 `json:"lease_expires_in_s"`
	// Waiters counts those who queue.
	Waiters int `json:"waiters"`
	// Owner is what the holder calls itself, empty if it did not say, and HeldS
	// the time since the lock was granted, in seconds. Other servers than this
	// project's say neither.
	Owner string  `json:"owner,omitempty"`
	HeldS float64 `json:"held_s"`
	// Value is nil if the lock has none.
	Value *ValueStats `json:"value,omitempty"`
}

// ValueStats is what the server knows of the value under a lock. Only this
// project's server has any.
type ValueStats struct {
	// Bytes is its size.
	Bytes int `json:"bytes"`
	// AgeS is the time since it was put, in seconds.
	AgeS float64 `json:"age_s"`
}

// SemaphoreStats is what the server knows of a semaphore in use.
type SemaphoreStats struct {
	Key   string `json:"key"`
	Limit int    `json:"limit"`
	// Holders counts the leases that are out, Waiters those who queue.
	Holders int `json:"holders"`
	Waiters int `json:"waiters"`
	// Owners are the first MaxOwners of the holders, in the order in which they
	// were granted their slots. Only this project's server lists them.
	Owners []OwnerStats `json:"owners,omitempty"`
}

// MaxOwners is how many holders of one semaphore a report lists at most.
const MaxOwners = 16

// OwnerStats is what the server knows of one holder of a semaphore.
type OwnerStats struct {
	// Name is what the holder calls itself, empty if it did not say.
	Name string `json:"name"`
	// Weight is how many of the slots it holds.
	Weight int `json:"weight"`
	// HeldS is the time since they were granted, in seconds.
	HeldS float64 `json:"held_s"`
}

// IdleStats is what the server knows of a key that nobody holds.
type IdleStats struct {
	Key string `json:"key"`
	// IdleS is the time since the last hold of it ended, in seconds; 0 for a lock
	// of which the server has forgotten all but its value.
	IdleS float64 `json:"idle_s"`
	// Value is nil if the key has none, as that of a semaphore.
	Value *ValueStats `json:"value,omitempty"`
}

// JSON returns the report as it goes into an Answer. Lists without entries are
// written as such, not as null, which clients in other languages trip over.
func (s ServerStats) JSON() []byte {
	s.Locks = orEmpty(s.Locks)
	s.Semaphores = orEmpty(s.Semaphores)
	s.IdleLocks = orEmpty(s.IdleLocks)
	s.IdleSemaphores = orEmpty(s.IdleSemaphores)
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false) // it makes six bytes of one, and this is no HTML
	if err := e.Encode(s); err != nil {
		panic("codec: bug: statistics that have no JSON: " + err.Error())
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte{'\n'})
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// ParseStats reads the report out of an Answer's JSON.
func ParseStats(b []byte) (ServerStats, error) {
	var s ServerStats
	if err := json.Unmarshal(b, &s); err != nil {
		return ServerStats{}, fmt.Errorf("codec: statistics: %w", err)
	}
	return s, nil
}
