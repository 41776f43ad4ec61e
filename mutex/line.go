package mutex

import (
	"sync"

	"github.com/distributed-go/distributed/locker"
)

// A line is a lock for the goroutines that share a handle, taken in FIFO order
// by one alone or by several who share. It does no waiting of its own: that is
// on the channels of the waiters, so that it can be given up, and shows in a
// testing/synctest bubble. It is guarded by the mu of its handle; the zero value
// is free.
type line struct {
	alone       bool // one has it alone
	sharing     int  // so many share it
	first, last *waiter
}

// A waiter is one goroutine in a line.
type waiter struct {
	next, previous *waiter
	waits          bool // it is in the line
	shares         bool

	// Turn is sent to once, by whoever took the waiter out of the line: the
	// lease that was handed over with the turn, or nil. It has a capacity of
	// one, so that nobody waits for a waiter.
	turn chan *locker.Lease
}

// Waiters are those of a handle that have had their turns and can be used again:
// a hand-over within the process takes little longer than making one does. They
// are the handle's, because a channel that is made in a testing/synctest bubble
// must not leave it. They are safe for concurrent use.
type waiters struct{ pool sync.Pool }

func (s *waiters) get() *waiter {
	if w, ok := s.pool.Get().(*waiter); ok {
		return w
	}
	return &waiter{turn: make(chan *locker.Lease, 1)}
}

// put takes back one that is in no line, with nothing in its channel.
func (s *waiters) put(w *waiter) { s.pool.Put(w) }

// enter takes the line and returns nil, or else the place of the caller in it.
func (l *line) enter(shares bool, idle *waiters) *waiter {
	if l.tryEnter(shares) {
		return nil
	}
	w := idle.get()
	w.previous, w.waits, w.shares = l.last, true, shares
	if l.last == nil {
		l.first = w
	} else {
		l.last.next = w
	}
	l.last = w
	return w
}

// tryEnter takes the line if nobody is before the caller.
func (l *line) tryEnter(shares bool) bool {
	if l.first != nil || !l.fits(shares) {
		return false
	}
	l.admit(shares)
	return true
}

func (l *line) fits(shares bool) bool { return !l.alone && (shares || l.sharing == 0) }

func (l *line) admit(shares bool) {
	if shares {
		l.sharing++
	} else {
		l.alone = true
	}
}

// leave ends the turn of one who had it.
func (l *line) leave() {
	if l.alone {
		l.alone = false
	} else {
		l.sharing--
	}
	l.serve()
}

// serve gives the turn to the first of those who wait, for as long as it can.
func (l *line) serve() {
	for w := l.first; w != nil && l.fits(w.shares); w = l.first {
		l.remove(w)
		l.admit(w.shares)
		w.turn <- nil
	}
}

// giveUp takes a waiter out of the line. It returns false if its turn has come.
func (l *line) giveUp(w *waiter) bool {
	if !w.waits {
		return false
	}
	l.remove(w)
	l.serve() // those behind it may share what it would have had alone
	return true
}

// shift takes the first waiter out of the line, for one who has it alone and
// gives its own turn away, or returns nil.
func (l *line) shift() *waiter {
	w := l.first
	if w != nil {
		l.remove(w)
	}
	return w
}

func (l *line) remove(w *waiter) {
	if w.previous == nil {
		l.first = w.next
	} else {
		w.previous.next = w.next
	}
	if w.next == nil {
		l.last = w.previous
	} else {
		w.next.previous = w.previous
	}
	w.next, w.previous, w.waits = nil, nil, false
}
