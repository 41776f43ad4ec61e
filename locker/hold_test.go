package locker

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

const (
	ms = time.Millisecond
	s  = time.Second
)

// defaultTerms are those of a Client without options.
var defaultTerms = terms{ratio: defaultRenewRatio}

// A life is a hold with its upkeep.
type life struct {
	hold
	upkeep
	terms *terms
}

func newLife(stamp, ttl, granted time.Duration, t *terms, jitter float64) *life {
	l := &life{hold: newHold(stamp, granted, t), terms: t}
	l.upkeep.began(&l.hold, ttl, t, jitter)
	return l
}

func (l *life) next() time.Duration            { return l.hold.next(l.renewAt, l.terms) }
func (l *life) due(now time.Duration) due      { return l.hold.due(now, l.renewAt, l.terms) }
func (l *life) stopAt() time.Duration          { return l.hold.stopAt(l.terms) }
func (l *life) over(now time.Duration) bool    { return l.hold.over(now, l.terms) }
func (l *life) limited() bool                  { return l.hold.limited(l.terms) }
func (l *life) retry(stamp, now time.Duration) { l.upkeep.retry(&l.hold, stamp, now) }
func (l *life) renewed(stamp, granted time.Duration, jitter float64) {
	l.upkeep.renewed(&l.hold, stamp, granted, l.terms, jitter)
}

// TestDeadlineOf: 1 % and 2 ms less than the lease, from the stamp, also where
// the sum of the two does not fit.
func TestDeadlineOf(t *testing.T) {
	for _, c := range []struct{ stamp, ttl, want time.Duration }{
		{0, 10 * s, 9898 * ms},
		{5 * s, 10 * s, 14898 * ms},
		{5 * s, 1 * s, 5988 * ms},
		{5 * s, 2 * ms, 5*s - 20*time.Microsecond},
		{5 * s, 0, 4998 * ms},
		{5 * s, -10 * s, 5*s - 10*s + 100*ms - 2*ms},
		{0, math.MaxInt64, math.MaxInt64 - math.MaxInt64/100 - 2*ms},
		{math.MaxInt64 / 2, math.MaxInt64, endless},
		{math.MaxInt64 - 1, math.MaxInt64, endless},
	} {
		if got := deadlineOf(c.stamp, c.ttl); got != c.want {
			t.Errorf("deadlineOf(%v, %v) = %v, want %v", c.stamp, c.ttl, got, c.want)
		}
	}
}

// TestGrantedTTL: never more than was asked for, never more than was answered.
func TestGrantedTTL(t *testing.T) {
	for _, c := range []struct{ asked, answered, want time.Duration }{
		{10 * s, 10 * s, 10 * s},
		{10 * s, 7 * s, 7 * s},
		{10 * s, 33 * s, 10 * s},
		{0, 33 * s, 33 * s}, // the backend's default
		{10 * s, 0, 0},
		{10 * s, -s, -s},
		{0, -s, -s},
	} {
		if got := grantedTTL(c.asked, c.answered); got != c.want {
			t.Errorf("grantedTTL(%v, %v) = %v, want %v", c.asked, c.answered, got, c.want)
		}
	}
}

// TestHoldIsRenewedAtAThird walks one hold of the default terms through its
// life.
func TestHoldIsRenewedAtAThird(t *testing.T) {
	h := newLife(100*s, 60*s, 60*s, &defaultTerms, 0)
	want := func(what string, at time.Duration, d due) {
		t.Helper()
		if n := h.next(); n != at {
			t.Fatalf("%s: next is %v, want %v", what, n, at)
		}
		if got := h.due(at); got != d {
			t.Fatalf("%s: due at %v is %v, want %v", what, at, got, d)
		}
		if got := h.due(at - 1); got != dueNothing {
			t.Fatalf("%s: due just before %v is %v", what, at, got)
		}
	}
	near := func(what string, got, least, most time.Duration) {
		t.Helper()
		if got < least || got > most {
			t.Fatalf("%s is %v, want %v to %v", what, got, least, most)
		}
	}
	deadline := 100*s + 59398*ms
	near("first renewal", h.next(), 119*s, 120*s)
	want("new", h.next(), dueRenewal)
	h.renewing()
	want("renewal under way", deadline-10*s, dueStop)

	h.retry(120*s, 130*s)
	want("no answer within a sixth", 130*s, dueRenewal)
	h.renewing()
	h.retry(130*s, 130*s+ms)
	want("refused at once", 131*s+ms, dueRenewal)
	h.renewing()
	want("second attempt under way", deadline-10*s, dueStop)
	h.stopped = true
	want("stopped", deadline, dueEnd)
	if !h.over(0) {
		t.Error("over is false after the stop instant was announced")
	}

	h.renewed(131*s+ms, 60*s, 0)
	if h.over(h.stopAt() - 1) {
		t.Error("over is true after a renewal")
	}
	if !h.over(h.stopAt()) {
		t.Error("over is false at the stop instant")
	}
	h.renewing()
	want("renewed after the stop instant", 131*s+ms+59398*ms-10*s, dueStop)
	h.stopped = true
	if got := h.due(1000 * s); got != dueEnd {
		t.Errorf("due long after the deadline is %v, want its end", got)
	}
}

// TestHoldMargin: what the stop instant may be.
func TestHoldMargin(t *testing.T) {
	for _, c := range []struct{ margin, ttl, want time.Duration }{
		{0, 60 * s, 10 * s},
		{20 * s, 60 * s, 20 * s},
		{30 * s, 60 * s, 30 * s},
		{50 * s, 60 * s, 30 * s}, // where the TTL was not known to the options
		{1, 60 * s, 1},
	} {
		h := newLife(0, c.ttl, c.ttl, &terms{margin: c.margin, ratio: defaultRenewRatio}, 0)
		if got := h.deadline - h.stopAt(); got != c.want {
			t.Errorf("WithStopMargin(%v) of a lease of %v stops %v before its deadline, want %v", c.margin, c.ttl, got, c.want)
		}
	}
}

// TestHoldLimit: the longest hold ends at its limit, however often it is
// renewed, and is not renewed when that could not move its deadline any more.
func TestHoldLimit(t *testing.T) {
	tm := terms{maxHold: 25 * s, ratio: defaultRenewRatio}
	h := newLife(100*s, 10*s, 10*s, &tm, 0)
	if h.limited() {
		t.Error("limited by 25s after 10s")
	}
	for stamp := 103 * s; stamp < 125*s && h.renewAt != never; stamp += 3 * s {
		h.renewing()
		h.renewed(stamp, 10*s, 0)
	}
	if !h.limited() || h.deadline != 125*s {
		t.Errorf("the deadline is %v, limited %v; want 125s, true", h.deadline-100*s, h.limited())
	}
	if h.renewAt != never {
		t.Errorf("renewed at %v although the limit has been reached", h.renewAt)
	}

	short := newLife(100*s, 10*s, 10*s, &terms{maxHold: s, ratio: defaultRenewRatio}, 0)
	if short.deadline != 101*s || short.renewAt != never {
		t.Errorf("a hold of at most 1s has the deadline %v and is renewed at %v", short.deadline, short.renewAt)
	}
	huge := terms{maxHold: math.MaxInt64, ratio: defaultRenewRatio}
	h = newLife(100*s, 10*s, 10*s, &huge, 0)
	if h.deadline != deadlineOf(100*s, 10*s) || h.limited() {
		t.Errorf("a hold of at most 292 years has the deadline %v, limited %v", h.deadline, h.limited())
	}
}

// TestHoldAttemptsBeforeDeadline: when nothing is answered at least four
// attempts start before the deadline, whatever the TTL and the jitter.
func TestHoldAttemptsBeforeDeadline(t *testing.T) {
	for range 2000 {
		ttl := time.Duration(rand.Int64N(int64(time.Hour))) + 200*ms
		h := newLife(0, ttl, ttl, &defaultTerms, rand.Float64())
		attempts := 0
		for h.renewAt < h.deadline {
			attempts++
			stamp := h.renewAt
			h.renewing()
			h.retry(stamp, stamp+h.attempt())
		}
		if attempts < 4 {
			t.Fatalf("%d attempts before the deadline of a lease of %v", attempts, ttl)
		}
	}
}

// TestHoldRefusedIsNotHammered: where each attempt fails at once there is a
// pause before the next.
func TestHoldRefusedIsNotHammered(t *testing.T) {
	h := newLife(0, 33*s, 33*s, &defaultTerms, 0)
	attempts := 0
	for h.renewAt < h.deadline {
		attempts++
		stamp := h.renewAt
		h.renewing()
		h.retry(stamp, stamp)
	}
	if attempts < 4 || attempts > 33 {
		t.Errorf("%d attempts of a lease of 33s against a server that refuses them all", attempts)
	}
}

// TestHoldOfAges: the longest lease that a duration can say.
func TestHoldOfAges(t *testing.T) {
	for _, stamp := range []time.Duration{0, s, 4 * 365 * 24 * time.Hour, math.MaxInt64 / 2} {
		h := newLife(stamp, math.MaxInt64, math.MaxInt64, &defaultTerms, 0.5)
		if h.deadline <= stamp || h.stopAt() <= stamp || h.renewAt <= stamp {
			t.Errorf("stamped at %v: deadline %v, stop %v, renewal %v", stamp, h.deadline, h.stopAt(), h.renewAt)
		}
		if got := h.due(stamp + s); got != dueNothing {
			t.Errorf("stamped at %v, due a second later: %v", stamp, got)
		}
		if h.limited() {
			t.Errorf("stamped at %v: limited without a limit", stamp)
		}
	}
}

// TestHoldAnsweredLess: a server that renews for less than it granted has moved
// its own expiry forward, and belief with it.
func TestHoldAnsweredLess(t *testing.T) {
	h := newLife(0, 60*s, 60*s, &defaultTerms, 0)
	h.renewing()
	h.renewed(20*s, 6*s, 0)
	if want := deadlineOf(20*s, 6*s); h.deadline != want {
		t.Errorf("after a renewal for 6s at 20s the deadline is %v, want %v", h.deadline, want)
	}
	if h.ttl != 60*s {
		t.Errorf("the next renewal asks for %v, want what was asked for at first", h.ttl)
	}
	if got, want := h.attempt(), s; got != want {
		t.Errorf("an attempt may take %v of what is left of 6s, want %v", got, want)
	}
	if got, want := h.stopAt(), h.deadline-s; got != want {
		t.Errorf("stops at %v, want a sixth of 6s before the deadline: %v", got, want)
	}
	if h.renewAt < 20*s+1800*ms || h.renewAt > 22*s {
		t.Errorf("renewed next at %v, want it a third of 6s after 20s", h.renewAt)
	}
	h.renewing()
	h.renewed(22*s, 60*s, 0)
	if want := deadlineOf(22*s, 60*s); h.deadline != want {
		t.Errorf("after a renewal for 60s at 22s the deadline is %v, want %v", h.deadline, want)
	}
}

// TestHoldRandomly runs random lives and checks what must hold in all of them.
func TestHoldRandomly(t *testing.T) {
	for seed := range uint64(3000) {
		randomLife(t, rand.New(rand.NewPCG(seed, 1)))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// randomTerms are terms that options allow.
func randomTerms(r *rand.Rand, ttl time.Duration) terms {
	tm := terms{ratio: defaultRenewRatio}
	if r.IntN(3) == 0 {
		tm.ratio = 0.05 + 0.45*r.Float64()
	}
	if r.IntN(3) == 0 {
		tm.margin = time.Duration(r.Int64N(int64(ttl)/2)) + 1
	}
	if r.IntN(3) == 0 {
		tm.maxHold = time.Duration(r.Int64N(int64(ttl)*10)) + 1
	}
	return tm
}

// randomLife renews, fails to renew and lets time pass at random.
func randomLife(t *testing.T, r *rand.Rand) {
	ttl := time.Duration(r.Int64N(int64(time.Hour))) + 50*ms
	now := time.Duration(r.Int64N(int64(time.Hour)))
	tm := randomTerms(r, ttl)
	h := newLife(now, ttl, ttl, &tm, r.Float64())
	checkFirst(t, h, &tm, now)
	began, stamp, granted, full := now, now, ttl, true
	for range 60 {
		checkHold(t, h, &tm, began, stamp, granted)
		if t.Failed() || h.due(now) == dueEnd {
			return
		}
		before := h.deadline
		switch h.due(now) {
		case dueStop:
			h.stopped = true
		case dueRenewal:
			h.renewing()
			sent, took := now, time.Duration(r.Int64N(int64(h.attempt())+1))
			now += took
			if r.IntN(3) == 0 || now >= h.deadline { // a hold that has ended is not renewed
				h.retry(sent, now)
				break
			}
			stamp, granted = sent, ttl
			if r.IntN(5) == 0 {
				granted = time.Duration(r.Int64N(int64(ttl))) + 1
			}
			h.renewed(stamp, granted, r.Float64())
			checkFirst(t, h, &tm, stamp)
			if full = full && granted == ttl; full && h.deadline < before {
				t.Errorf("the deadline moved back from %v to %v", before, h.deadline)
			}
		default:
			now = h.next()
		}
	}
}

// checkHold checks what is true at all times.
func checkHold(t *testing.T, h *life, tm *terms, began, stamp, granted time.Duration) {
	t.Helper()
	most := stamp + granted - granted/100 - 2*ms
	if h.deadline > most {
		t.Errorf("the deadline is %v, later than %v, which the last answer allows", h.deadline, most)
	}
	if tm.maxHold > 0 && h.deadline > began+tm.maxHold {
		t.Errorf("the deadline is %v, later than %v, the longest hold", h.deadline, began+tm.maxHold)
	}
	if h.stopAt() != never && h.stopAt() > h.deadline {
		t.Errorf("stops at %v, after the deadline %v", h.stopAt(), h.deadline)
	}
	if granted == h.ttl && h.stopAt() != never && h.deadline-h.stopAt() > h.ttl/2 {
		t.Errorf("stops %v before the deadline of a lease of %v", h.deadline-h.stopAt(), h.ttl)
	}
	n := h.next()
	if got := h.due(n - 1); got != dueNothing {
		t.Errorf("due just before next (%v) is %v", n, got)
	}
	if h.due(n) == dueNothing {
		t.Errorf("nothing is due at next (%v): the keeper would spin", n)
	}
}

// checkFirst checks the first attempt to renew after an answer.
func checkFirst(t *testing.T, h *life, tm *terms, stamp time.Duration) {
	t.Helper()
	if tm.margin > 0 || h.granted < 50*ms || h.renewAt == never {
		return // a wide margin brings it forward, and so do 2 ms of a tiny lease: see TestHoldIsRenewedBeforeItStops
	}
	latest := time.Duration(tm.ratio * float64(h.granted))
	if after := h.renewAt - stamp; after < latest*9/10 || after > latest {
		t.Errorf("renewed first %v after the stamp of a lease of %v, ratio %v", after, h.granted, tm.ratio)
	}
}

// TestHoldIsRenewedBeforeItStops: whatever the options say, an attempt to renew
// has time to be answered before the stop instant.
func TestHoldIsRenewedBeforeItStops(t *testing.T) {
	for _, ratio := range []float64{0.01, 0.2, defaultRenewRatio, 0.5} {
		for _, part := range []time.Duration{2, 3, 6, 100} {
			for _, ttl := range []time.Duration{100 * ms, s, 33 * s, time.Hour} {
				h := newLife(7*s, ttl, ttl, &terms{margin: ttl / part, ratio: ratio}, 0)
				if h.renewAt+h.attempt() > h.stopAt() {
					t.Errorf("ratio %v, margin %v of %v: an attempt from %v to %v, and the stop instant is %v",
						ratio, ttl/part, ttl, h.renewAt-h.since, h.renewAt+h.attempt()-h.since, h.stopAt()-h.since)
				}
				if h.renewAt < h.since {
					t.Errorf("ratio %v, margin %v of %v: renewed %v before it began", ratio, ttl/part, ttl, h.since-h.renewAt)
				}
			}
		}
	}
}
