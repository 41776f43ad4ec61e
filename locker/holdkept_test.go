package locker

import (
	"testing"
	"time"
)

// TestHoldThatIsKept: what the backend says moves the deadline on, never back,
// and not beyond the limit; then there may be new work.
func TestHoldThatIsKept(t *testing.T) {
	tm := terms{maxHold: 25 * s, ratio: defaultRenewRatio}
	h := newHold(100*s, 10*s, &tm)
	h.stopped = true
	for _, c := range []struct {
		since time.Duration
		grows bool
		want  time.Duration
	}{
		{100 * s, false, deadlineOf(100*s, 10*s)},
		{99 * s, false, deadlineOf(100*s, 10*s)},
		{100*s + 1, true, deadlineOf(100*s+1, 10*s)},
		{109 * s, true, deadlineOf(109*s, 10*s)},
		{108 * s, false, deadlineOf(109*s, 10*s)},
		{124 * s, true, 125 * s},
		{125 * s, false, 125 * s},
		{endless, false, 125 * s},
	} {
		if got := h.grows(c.since, &tm); got != c.grows {
			t.Errorf("since %v: grows is %v, want %v", c.since, got, c.grows)
		}
		if h.grows(c.since, &tm) {
			h.extend(c.since, h.granted, &tm)
			if h.stopped {
				t.Errorf("since %v: the stop instant of the deadline before was kept", c.since)
			}
		}
		if h.deadline != c.want || h.since != 100*s {
			t.Errorf("since %v: the deadline is %v, want %v; the hold began at %v", c.since, h.deadline, c.want, h.since)
		}
		if got, want := h.next(never, &tm), c.want-10*s/6; !h.stopped && got != want {
			t.Errorf("since %v: next is %v, want the stop instant %v", c.since, got, want)
		}
	}
	if !h.limited(&tm) {
		t.Error("not limited at the limit")
	}
}
