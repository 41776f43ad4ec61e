package locker

import "time"

// An upkeep is what a lease has that the Client renews, because its backend does
// not: it implements Kept for the Client itself. HandOver passes it on with a
// renewal that is under way. What it has besides its session, as its fields say,
// is guarded by keeper.mu.
type upkeep struct {
	session        *Session // what the hold depends on besides its TTL; nil if nothing
	next, previous *upkeep  // of the same session; guarded by session.mu

	lease    *Lease        // whose it is, nil before Bind; changed under both locks
	ttl      time.Duration // what is asked for in each renewal
	renewAt  time.Duration // the next renewal starts here; never while one runs or none is needed
	renewal  *renewal      // under way; nil if none is
	attempts uint8         // to renew, since the last that was answered; it stays at its largest value
	returns  bool          // the lease is to be given back when the renewal under way is answered
}

// Since implements Kept. It moves no hold on: the answers to renewals do.
func (u *upkeep) Since() time.Duration { return 0 }

// Bind implements Kept: from here on the end of the session is the lease's. The
// caller holds keeper.mu.
func (u *upkeep) Bind(to Loser) error {
	l := (*Lease)(to.(*loser))
	if u.session == nil {
		u.lease = l
		return nil
	}
	return u.session.attach(u, l)
}

// began plans the first renewal of a hold. Jitter is in [0, 1).
func (u *upkeep) began(h *hold, ttl time.Duration, t *terms, jitter float64) {
	u.ttl = ttl
	u.plan(h, h.since, t, jitter)
}

// renewed extends the hold by a renewal that was sent at stamp and granted.
// Renewals are answered in the order of their stamps, one after the other, so
// the last answer counts.
func (u *upkeep) renewed(h *hold, stamp, granted time.Duration, t *terms, jitter float64) {
	u.attempts = 0
	h.extend(stamp, granted, t)
	u.plan(h, stamp, t, jitter)
}

// plan says when to renew a hold that counts from stamp.
func (u *upkeep) plan(h *hold, stamp time.Duration, t *terms, jitter float64) {
	u.renewAt = never
	if h.deadline < h.limit(t) {
		// Where the margin is wide the first attempt comes forward: one that
		// is answered in its time must find the work still going on.
		after := min(time.Duration(t.ratio*float64(h.granted)), h.stopAt(t)-h.attempt()-stamp)
		u.renewAt = stamp + max(0, onBeat(stamp, after, jitter))
	}
}

// onBeat brings forward what is to start a while after stamp, by jitter and to
// the grid.
func onBeat(stamp, after time.Duration, jitter float64) time.Duration {
	beat := max(1, time.Duration(beatFraction*float64(after)))
	after -= time.Duration(jitterFraction * jitter * float64(after))
	return after - (stamp+after)%beat
}

// renewing notes that a renewal is on its way.
func (u *upkeep) renewing() { u.renewAt = never }

// retry plans the next attempt after one, begun at stamp, that had no answer by
// now: at once if it used up its time, else after a moment, so that a server
// that refuses connections is not hammered.
func (u *upkeep) retry(h *hold, stamp, now time.Duration) {
	u.renewAt = max(now, min(stamp+h.attempt(), now+min(h.granted/24, time.Second)))
}
