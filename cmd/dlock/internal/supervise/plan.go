//go:build unix

package supervise

import "time"

// grace is the longest time between asking a group to end and ending it, where
// it is already too late: the key may be somebody else's by then.
const grace = time.Second

// A plan says when a group is asked to end and when it is ended. It is a pure
// function of what was told to it and when, so that its rules can be tested
// without a clock, a process or a lease.
type plan struct {
	// deadline is the last instant at which the hold is known to last.
	deadline time.Time
	// term is the instant at which the group was asked to end; zero if it was
	// not.
	term time.Time
	// kill is the instant at which the group is ended; zero if it is not.
	kill time.Time
}

// renewed takes in the current deadline of a hold that lasts.
func (p *plan) renewed(deadline time.Time) { p.deadline = deadline }

// look returns the instant at which the deadline should be read again: half-way
// to it, so that what is known of a hold that is renewed is never old.
func (p *plan) look(now time.Time) time.Time {
	return now.Add(max(p.deadline.Sub(now)/2, 10*time.Millisecond))
}

// stopping takes in that the hold may end at its deadline: there is time until
// then, and none after. It says whether the group is to be asked to end now.
func (p *plan) stopping(now time.Time) (ask bool) { return p.end(now, p.deadline) }

// lost takes in that the hold has ended. Before its deadline, because it was
// refused or its connection closed: then the command gets its second to clean
// up, since a kill in the middle of a write helps the next holder no more than
// a short overlap hurts. After it, because this machine or process was paused:
// then it gets nothing.
func (p *plan) lost(now time.Time) (ask bool) {
	asked := p.term
	if asked.IsZero() {
		asked = now
	}
	return p.end(now, earlier(p.deadline, asked.Add(grace)))
}

// finish takes in that the group is to end for a reason that is not the hold's:
// its leader has ended, or the caller has.
func (p *plan) finish(now time.Time) (ask bool) { return p.end(now, now.Add(grace)) }

func (p *plan) end(now, kill time.Time) (ask bool) {
	if p.kill.IsZero() || kill.Before(p.kill) {
		p.kill = kill
	}
	if !p.term.IsZero() {
		return false
	}
	p.term = now
	return true
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
