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
	idle := new(waiters)
	if l.enter(true, idle) != nil || !l.tryEnter(true) {
		t.Fatal("two cannot share")
	}
	alone, sharer, last := l.enter(false, idle), l.enter(true, idle), l.enter(false, idle)
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

// TestAWaitAllocatesNothing once others have waited before.
func TestAWaitAllocatesNothing(t *testing.T) {
	var l line
	idle := new(waiters)
	l.enter(false, idle)
	n := testing.AllocsPerRun(1000, func() {
		w := l.enter(false, idle)
		l.leave()
		if !had(w) {
			t.Fatal("no turn")
		}
		idle.put(w)
	})
	if n >= 1 { // the race detector has pools drop a part of what they are given
		t.Errorf("%v allocations", n)
	}
}
