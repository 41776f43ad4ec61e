package table

// An EventKind says what happened to a lease without its owner asking for it.
type EventKind uint8

const (
	// EventGranted says that the turn of a queued lease came.
	EventGranted EventKind = iota
	// EventTimedOut says that a queued lease waited for as long as it wanted.
	EventTimedOut
	// EventExpired says that a granted lease ran out.
	EventExpired
	// EventAbandoned says that a queued lease of a session lost its place,
	// because the session was silent for the lease's TTL.
	EventAbandoned
	// EventRevoked says that a granted lease was taken away by Force.
	EventRevoked
	// EventReleased says that a lease of a session was released by its token.
	// It is an event because anybody who knows the token can do that, and the
	// session's beats would never tell it.
	EventReleased
	// EventValue says that a put answered a queued lease of a Request that Joins:
	// its Published says with what.
	EventValue
)

// An Event is something that happened to a lease that was queued or held. What
// the lease is now its State says: by the time that a caller reads of a grant,
// the same call that made it may have ended it.
type Event struct {
	Lease *Lease
	Kind  EventKind
}

// keptEvents is the room for events that is kept for the next: 16 KiB. What a
// mass expiry needed more goes back to the allocator.
const keptEvents = 1024

// Events returns what happened since the last call, in the order in which it
// did, and forgets it. The slice is the caller's until the next call of Events;
// calls of any other method leave it alone, so that a caller may act on each
// event at once.
func (t *Table) Events() []Event {
	if len(t.events)+len(t.handed) == 0 {
		return nil // nearly always, and asked for several times a request
	}
	last := t.handed
	t.handed = t.events
	clear(last)
	if cap(last) > keptEvents {
		last = nil
	}
	t.events = last[:0]
	return t.handed
}

func (t *Table) happened(k EventKind, l *Lease) {
	t.events = append(t.events, Event{Lease: l, Kind: k})
}
