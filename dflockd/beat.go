package dflockd

import (
	"math"
	"time"
)

const (
	// idleBeat is how often a link says something that nobody needs: the server
	// closes silent ones after 30 s. It is kept, because to connect again would
	// delay whoever comes next.
	idleBeat = 10 * time.Second

	// leastPatience is what patienceOf returns for beats of 2/3 s, which are
	// those of a lease of two seconds. For shorter ones there would not be the
	// time for a round trip over a bad network.
	leastPatience = 400 * time.Millisecond
)

// patienceOf returns how long a link may owe the answer to a beat, and say
// nothing else, before it is cut: it may lead nowhere, and who waits for TCP to
// find out loses the lease. With beats every third of the TTL and this, after
// the first beat that is not answered come two tries to connect again, of which
// the second has as much time as two thirds of the first, before the deadline:
// a beat before it, 0.6 beats of patience, 0.6 for the first try, and 0.77 left.
func patienceOf(every time.Duration) time.Duration {
	return max(every*3/5, leastPatience)
}

// A pulse is what the next thing to do for a link depends on.
type pulse struct {
	every   time.Duration // between beats
	busy    bool          // there are holds or calls
	beating bool          // a beat has no answer
	beatAt  time.Duration // when it was sent
	heard   time.Duration // when the server said anything
}

// A deed is what to do for a link.
type deed uint8

const (
	doNothing deed = iota
	doBeat
	doCut
)

// next says what to do now, and when to look again. It is pure, so that all
// cases can be tried.
func (p pulse) next(now time.Duration) (deed, time.Duration) {
	patience := patienceOf(p.every)
	if p.beating {
		silent := max(p.beatAt, p.heard)
		if now-silent >= patience {
			return doCut, now
		}
		return doNothing, silent + patience
	}
	interval := p.every
	if !p.busy {
		interval = idleBeat
	}
	if due := p.beatAt + interval; now < due {
		return doNothing, due
	}
	return doBeat, now + min(p.every, patience)
}

// tend looks after a link until it ends.
func (x *conversation) tend(l *link) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-x.kick:
		case <-l.gone:
			return
		case <-x.srv.b.life.Done():
			x.end(reasonClosed)
			return
		}
		timer.Reset(x.beat(l))
	}
}

// beat does what is due for a link, and returns when to look again.
func (x *conversation) beat(l *link) time.Duration {
	now := x.clock()
	x.mu.Lock()
	p := pulse{every: x.client.BeatEvery(), busy: x.client.Busy(), beating: x.client.Beating(), beatAt: max(x.beatAt, x.client.Beaten()), heard: l.heard}
	if now-x.lookAt > patienceOf(p.every)/2 {
		// This process was stopped, or too busy: what the server has said
		// meanwhile may not have been read yet.
		l.heard, p.heard = now, now
	}
	deed, at := p.next(now)
	x.lookAt = at
	switch {
	case x.link != l:
	case deed == doBeat:
		x.beatAt = now
		x.client.Beat(now)
		at = min(at, x.reclaimLocked(now))
	case deed == doCut:
		x.mu.Unlock()
		x.cut(l, errSilent)
		return 0
	default:
		at = min(at, x.reclaimLocked(now))
	}
	x.leave(now)
	return at - now
}

const (
	// claimSpread is the time over which a client claims what it holds from a
	// server that was restarted, so that not all of them come at once.
	claimSpread = 100 * time.Millisecond

	// claimPause is the least time between two lots of claims.
	claimPause = 5 * time.Millisecond
)

// reclaimLocked makes the claims that are due, and returns when the next are.
func (x *conversation) reclaimLocked(now time.Duration) time.Duration {
	at, ok := x.client.ClaimAt()
	if ok && at <= now {
		x.client.Claim(now)
		at, ok = x.client.ClaimAt()
	}
	if !ok {
		return math.MaxInt64
	}
	return max(at, now+claimPause)
}
