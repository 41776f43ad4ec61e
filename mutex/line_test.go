package mutex

import "testing"

// had says whether the turn of a waiter has come.
func had(w *waiter) bool {
	select {
	case <-w.turn:
		return true
	default:
		return false
	}
}

// TestLine: sharers run together, but do not pass one before them who wants to
// be alone, until that one gives up.
func TestLine(t *testing.T) {
	var l line
	if l.enter(true) != nil || !l.tryEnter(true) {
		t.Fatal("two cannot share")
	}
	alone, sharer, last := l.enter(false), l.enter(true), l.enter(false)
	if alone == nil || sharer == nil || last == nil || l.tryEnter(true) {
		t.Fatal("one who comes late overtakes")
	}
	if !l.giveUp(alone) || l.giveUp(alone) {
		t.Error("a waiter gives up once")
	}
	if !had(sharer) || had(last) {
		t.Error("who gave up is still waited for, or kept nobody")
	}
	for range 3 {
		if had(last) {
			t.Error("one is alone among others")
		}
		l.leave()
	}
	if !had(last) || l.giveUp(last) || l.tryEnter(true) {
		t.Error("the last has no turn, or has it with others")
	}
	l.leave()
	if l != (line{}) {
		t.Errorf("in the end the line is %+v", l)
	}
}
