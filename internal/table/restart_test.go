package table

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"testing"
	"time"
)

// genuine is a Sign that knows all that a token stands for.
func genuine(k Kind, key string, fence uint64, limit, weight int) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, k, key, fence, limit, weight)
	return h.Sum64()
}

// token returns the token of a lease that an earlier table granted.
func token(k Kind, key string, fence uint64, limit, weight int) Token {
	return Token{Fence: fence, MAC: genuine(k, key, fence, limit, weight)}
}

func lockToken(key string, fence uint64) Token { return token(Lock, key, fence, 1, 1) }

// restarted returns a table in its grace, of 10 s.
func restarted(t *testing.T) (b *bench, o *Owner) {
	b = newBench(t, func(c *Config) { c.Sign, c.GraceEnd, c.ClaimTTL = genuine, 10*second, 20*second })
	b.at = 1
	return b, b.NewSession(1)
}

func (b *bench) claim(r Request, tok Token) *Lease {
	b.Helper()
	l, err := b.Claim(b.at, r, tok)
	if err != nil || l.Token() != tok || l.State() != Granted || l.Owner() != r.Owner {
		b.Fatalf("Claim = %v, %v", l, err)
	}
	return l
}

func (b *bench) notClaimed(r Request, tok Token) {
	b.Helper()
	if l, err := b.Claim(b.at, r, tok); !errors.Is(err, ErrNotHeld) {
		b.Fatalf("Claim = %v, %v, want ErrNotHeld", l, err)
	}
}

func TestNothingIsGrantedInTheGrace(t *testing.T) {
	b, o := restarted(t)
	other := b.NewSession(2)
	b.refused(try(lock(o, "k")), ErrLocked)
	late := b.ask(until(lock(o, "late"), 10*second-1), Queued)
	shared := b.ask(lasting(slots(o, "z", 2, 1), 30*time.Second), Queued)
	first := b.ask(until(lock(o, "k"), 10*second), Queued)
	third := b.ask(lasting(lock(other, "k"), 30*time.Second), Queued)
	b.Heard(9*time.Second, o)
	b.Heard(9*time.Second, other)
	b.happens()
	if at, ok := b.Next(); !ok || at > 10*time.Second {
		t.Fatalf("Next = %v, %t", at, ok)
	}
	b.at = 10*time.Second + 5
	b.Advance(b.at)
	b.happens(Event{late, EventTimedOut}, Event{shared, EventGranted}, Event{first, EventGranted})
	if b.GraceEnd() != 0 || b.Recovering() || third.State() != Queued {
		t.Error("the grace has not ended, or the queue is out of order")
	}
	if first.Token().Fence <= 1000 || first.Remaining(b.at) != ttl {
		t.Errorf("fence %d for %v", first.Token().Fence, first.Remaining(b.at))
	}
}

func TestClaim(t *testing.T) {
	b, o := restarted(t)
	other := b.NewSession(2)
	waiter := b.ask(lasting(lock(other, "k"), 30*second), Queued)
	tok := lockToken("k", 900)
	l := b.claim(lock(o, "k"), tok)
	if again := b.claim(lock(o, "k"), tok); again != l {
		t.Error("claimed again it is another lease")
	}
	b.notClaimed(lock(other, "k"), tok) // it has an owner
	b.notClaimed(lock(o, "other"), tok)
	b.notClaimed(lock(o, "free"), Token{Fence: 900, MAC: 1})
	b.notClaimed(lock(o, "free"), lockToken("free", 1001))
	b.notClaimed(slots(o, "k", 1, 1), tok)
	if long := b.claim(lasting(lock(o, "long"), time.Hour), lockToken("long", 1000)); long.TTL() != 20*second {
		t.Errorf("claimed for %v", long.TTL())
	}
	b.at = 9 * second
	b.Beat(b.at, o)
	b.Heard(b.at, other)
	b.at = 12 * second
	b.Advance(b.at)
	b.happens()
	b.release(l)
	b.happens(Event{l, EventReleased}, Event{waiter, EventGranted})
	b.notClaimed(lock(o, "after"), lockToken("after", 5)) // the grace is over
}

func TestHigherFenceWins(t *testing.T) {
	b, o := restarted(t)
	other := b.NewSession(2)
	low := b.claim(lock(o, "k"), lockToken("k", 5))
	high := b.claim(lock(other, "k"), lockToken("k", 9))
	b.happens(Event{low, EventRevoked})
	b.want(low, Ended, Revoked)
	b.notClaimed(lock(o, "k"), lockToken("k", 5))
	b.notClaimed(lock(o, "k"), lockToken("k", 7))
	b.want(high, Granted, Lasting)
	b.release(high)
	b.notClaimed(lock(o, "k"), lockToken("k", 7)) // there was a later grant
	b.Events()
}

func TestSharesAreAllClaimed(t *testing.T) {
	b, o := restarted(t)
	b.ask(lasting(slots(o, "s", 5, 5), 30*second), Queued)
	var all []*Lease
	for f := range 4 {
		all = append(all, b.claim(slots(o, "s", 3, 1), token(Semaphore, "s", uint64(9-f), 3, 1)))
	}
	waiter := b.ask(lasting(slots(o, "s", 3, 1), 30*second), Queued)
	if events := b.Events(); len(events) != 1 || events[0].Kind != EventTimedOut {
		t.Errorf("who waited with another limit: %v", events)
	}
	b.at = 9 * second
	b.Beat(b.at, o)
	b.at = 11 * second
	b.Advance(b.at)
	b.release(all[0])
	b.happens(Event{all[0], EventReleased})
	b.release(all[1])
	b.happens(Event{all[1], EventReleased}, Event{waiter, EventGranted})
}

func TestReleaseInTheGrace(t *testing.T) {
	b, o := restarted(t)
	release := func(k Kind, key string, tok Token, want error) {
		t.Helper()
		if err := b.Release(b.at, k, []byte(key), tok); err != want {
			t.Fatalf("Release = %v, want %v", err, want)
		}
	}
	release(Lock, "k", lockToken("k", 5), nil)
	release(Lock, "k", lockToken("k", 5), ErrNotHeld)
	b.notClaimed(lock(o, "k"), lockToken("k", 5))
	release(Lock, "k", Token{Fence: 6, MAC: 1}, ErrNotHeld)
	release(Lock, "k", lockToken("k", 1001), ErrNotHeld)
	share := token(Semaphore, "s", 7, 3, 2)
	release(Semaphore, "s", share, nil)
	b.notClaimed(slots(o, "s", 3, 2), share)
	claimed := b.claim(lock(o, "c"), lockToken("c", 5))
	release(Lock, "c", lockToken("c", 4), ErrNotHeld)
	b.release(claimed)
	b.notClaimed(lock(o, "c"), lockToken("c", 5))
	for i := len(b.past.locks) + len(b.past.shares); i < maxTombs; i++ {
		release(Semaphore, "s", Token{Fence: 1, MAC: uint64(i)}, nil)
	}
	release(Semaphore, "s", token(Semaphore, "s", 8, 3, 2), ErrTooManyReleases)
	b.claim(slots(o, "s", 3, 2), token(Semaphore, "s", 8, 3, 2))
	b.at = 10 * second
	release(Lock, "z", lockToken("z", 5), ErrNotHeld)
	b.Events()
	if b.past.locks != nil || b.past.shares != nil {
		t.Error("they are kept in mind after the grace")
	}
}

func TestRestore(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Sign, c.MaxKeys = genuine, 1 })
	b.at = 1
	o := b.NewSession(1)
	restore := func(r Record, want bool) {
		t.Helper()
		if got := b.Restore(b.at, r); got != want {
			t.Fatalf("Restore(%+v) = %t", r, got)
		}
	}
	restore(Record{Lock, "k", 5, 1, 1, 20 * second}, true)
	restore(Record{Lock, "k", 8, 1, 1, 20 * second}, true)
	restore(Record{Lock, "k", 7, 1, 1, 20 * second}, false)
	restore(Record{Semaphore, "s", 3, 3, 2, 20 * second}, true)
	b.Events()
	b.refused(try(lock(o, "k")), ErrLocked)
	if got, err := b.Renew(b.at, Lock, []byte("k"), lockToken("k", 8), 30*second); err != nil || got != 30*second {
		t.Errorf("Renew = %v, %v", got, err)
	}
	if !b.Recovering() || b.GraceEnd() != 0 {
		t.Error("what was restored is not to be claimed")
	}
	b.claim(lasting(lock(o, "k"), time.Hour), lockToken("k", 8))
	b.notClaimed(lock(o, "k"), lockToken("k", 5))
	s := b.claim(lasting(slots(o, "s", 3, 2), 5*second), token(Semaphore, "s", 3, 3, 2))
	if b.Recovering() || s.TTL() != 5*second {
		t.Errorf("recovering is %t, the share lasts %v", b.Recovering(), s.TTL())
	}
	one := b.ask(slots(o, "s", 3, 1), Granted)
	b.at = 6 * second
	b.Advance(b.at)
	b.happens(Event{s, EventExpired})
	b.release(one)
	b.Events()
	all := b.Records(b.at)
	if len(all) != 1 || all[0] != (Record{Lock, "k", 8, 1, 1, 30 * second}) {
		t.Errorf("Records = %v", all)
	}
}

func TestRecordsLeaveOutWhatNobodyKnows(t *testing.T) {
	b := newBench(t)
	o := b.NewSession(1)
	r := lock(o, "k")
	r.Ticket = true
	l := b.ask(r, Granted)
	if all := b.Records(b.at); len(all) != 0 {
		t.Errorf("Records = %v", all)
	}
	if err := b.Collect(b.at, l); err != nil || len(b.Records(b.at)) != 1 {
		t.Errorf("collected: %v, %v", err, b.Records(b.at))
	}
}

func TestCeiling(t *testing.T) {
	b := newBench(t)
	o := b.NewSession(1)
	b.SetCeiling(b.at, 1002)
	held := b.ask(lock(o, "a"), Granted)
	wide := lock(o, "b")
	wide.Fences = 2
	b.refused(try(wide), ErrLocked)
	w1, w2 := b.ask(wide, Queued), b.ask(lock(o, "a"), Queued)
	if b.Wants() != 1003 {
		t.Errorf("Wants = %d", b.Wants())
	}
	b.ask(lock(o, "c"), Granted)
	b.release(held)
	b.happens(Event{held, EventReleased})
	b.happens()
	b.SetCeiling(b.at, 1004)
	b.happens(Event{w1, EventGranted})
	if b.Wants() != 1005 {
		t.Errorf("Wants = %d", b.Wants())
	}
	if err := audit(b.Table, o); err != nil {
		t.Error(err)
	}
	b.SetCeiling(b.at, math.MaxUint64)
	b.happens(Event{w2, EventGranted})
	if w1.Token().Fence != 1003 || w2.Token().Fence != 1005 || b.Wants() != 0 {
		t.Errorf("fences %d and %d", w1.Token().Fence, w2.Token().Fence)
	}
}

func TestEndedIsToldOnce(t *testing.T) {
	ended := map[*Lease]int{}
	b := newBench(t, func(c *Config) { c.Ended = func(l *Lease) { ended[l]++ } })
	o := b.NewOwner(1)
	one, two, queued := b.ask(lock(o, "a"), Granted), b.ask(lock(o, "b"), Granted), b.ask(lock(o, "b"), Queued)
	b.Cancel(b.at, queued)
	b.release(one)
	b.Drop(b.at, o, false)
	if len(ended) != 2 || ended[one] != 1 || ended[two] != 1 {
		t.Errorf("ended: %v", ended)
	}
}

func TestLongestTTL(t *testing.T) {
	b := newBench(t)
	o := b.NewSession(1)
	b.ask(lasting(lock(o, "a"), 5*second), Granted)
	b.ask(lasting(lock(o, "a"), 7*second), Queued)
	b.ask(lasting(slots(o, "b", 1, 1), 90*second), Granted)
	pauses := 0
	pause := func() time.Duration { pauses++; return b.at }
	if got := b.LongestTTL(b.at, time.Minute, 1, pause); got != 7*second || pauses != 2 {
		t.Errorf("LongestTTL = %v after %d pauses", got, pauses)
	}
}
