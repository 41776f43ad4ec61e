package session

import (
	"slices"
	"testing"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/table"
)

func putOf(id uint64, key, data string, token codec.Token) codec.Request {
	return codec.Request{ID: id, Command: codec.Put, Key: []byte(key), Value: []byte(data), Token: token}
}

func delOf(id uint64, key string, token codec.Token) codec.Request {
	return codec.Request{ID: id, Command: codec.Delete, Key: []byte(key), Token: token}
}

func getOf(id uint64, key string) codec.Request {
	return codec.Request{ID: id, Command: codec.Get, Key: []byte(key)}
}

func joinOf(id uint64, key string, fresh time.Duration) codec.Request {
	r := lockOf(id, key)
	r.Command, r.Fresh = codec.Join, fresh
	return r
}

func tryJoin(id uint64, key string, fresh time.Duration) codec.Request {
	r := joinOf(id, key, fresh)
	r.NoTimeout = false
	return r
}

// holds begins a session that holds a key, by its request 1.
func (d *desk) holds(key string) (*pipe, codec.SessionID, codec.Token) {
	d.Helper()
	p, id := d.hello()
	return p, id, d.ask(p, lockOf(1, key), line(1, codec.OK)).Token
}

// onDisk makes the desk's values durable, and returns what is on its way there.
func (d *desk) onDisk() *[]Write {
	var writes []Write
	d.server.cfg.Persist = func(w Write) bool { writes = append(writes, w); return true }
	return &writes
}

// says wants an answer to carry a value.
func (d *desk) says(a codec.Answer, data string, fence uint64, age time.Duration) {
	d.Helper()
	if a.Status != codec.Found || string(a.Value) != data || a.Fence != fence || a.Age != age {
		d.Fatalf("%v with %q, want %q of fence %d after %v", a, a.Value, data, fence, age)
	}
}

func TestValuesArePutAndRead(t *testing.T) {
	d := newDesk(t)
	p, _, token := d.holds("k")
	q, _ := d.hello()
	d.ask(q, getOf(1, "k"), line(1, codec.None))
	if a := d.ask(p, putOf(2, "k", "hello", token), line(2, codec.OK)); !a.HasFence || a.Fence != 2 {
		t.Fatalf("put: %v", a)
	}
	d.passes(3 * time.Second)
	d.says(d.ask(q, getOf(2, "k"), line(2, codec.Found)), "hello", 2, 3*time.Second)
	d.says(d.ask(q, tryJoin(3, "k", 4*time.Second), line(3, codec.Found)), "hello", 2, 3*time.Second)
	d.says(d.ask(q, tryJoin(4, "k", codec.AnyAge), line(4, codec.Found)), "hello", 2, 3*time.Second)
	d.ask(q, tryJoin(5, "k", 3*time.Second), line(5, codec.Timeout)) // too old
	d.ask(q, tryJoin(6, "k", 0), line(6, codec.Timeout))
	d.ask(p, putOf(3, "k", "", token), line(3, codec.OK))
	d.says(d.ask(q, getOf(7, "k"), line(7, codec.Found)), "", 3, 0)
	d.ask(p, delOf(4, "k", token), line(4, codec.OK))
	d.ask(p, delOf(5, "k", token), line(5, codec.None))
	d.ask(q, getOf(8, "k"), line(8, codec.None))
	short := putOf(6, "k", "soon gone", token)
	short.Keep = time.Second
	d.ask(p, short, line(6, codec.OK))
	d.passes(time.Second)
	d.ask(q, getOf(9, "k"), line(9, codec.None))
}

func TestOnlyTheHolderWrites(t *testing.T) {
	d := newDesk(t)
	p, _, token := d.holds("k")
	other := d.ask(p, lockOf(2, "other"), line(2, codec.OK)).Token
	pool := d.ask(p, codec.Request{ID: 3, Command: codec.Lock, Semaphore: true, Key: []byte("k"), Limit: 1}, line(3, codec.OK)).Token
	for i, wrong := range []codec.Token{{}, other, pool} {
		d.ask(p, putOf(uint64(10+2*i), "k", "x", wrong), line(uint64(10+2*i), codec.Failed))
		d.ask(p, delOf(uint64(11+2*i), "k", wrong), line(uint64(11+2*i), codec.Failed))
	}
	d.ask(p, putOf(20, "k", string(make([]byte, table.DefaultMaxValue+1)), token), line(20, codec.TooLarge))
	d.passes(10 * time.Second) // the leases end
	p.down = nil
	d.ask(p, putOf(21, "k", "x", token), line(21, codec.Failed))
	d.ask(p, getOf(22, "k"), line(22, codec.None))
}

func TestAPutAnswersAllWhoJoin(t *testing.T) {
	d := newDesk(t)
	p, _, token := d.holds("k")
	var joiners []*pipe
	for range 3 {
		q, _ := d.hello()
		d.ask(q, joinOf(1, "k", 0))
		joiners = append(joiners, q)
	}
	waits, _ := d.hello()
	d.ask(waits, lockOf(1, "k"))
	d.ask(p, putOf(2, "k", "v", token), line(2, codec.OK))
	for _, q := range joiners {
		d.says(d.comes(q, line(1, codec.Found)), "v", 2, 0)
		d.ask(q, joinOf(2, "k", 0))
	}
	d.comes(waits) // it wants the lock
	d.ask(p, codec.Request{ID: 3, Command: codec.Release, Key: []byte("k"), Token: token}, line(3, codec.OK))
	token = d.comes(waits, line(1, codec.OK)).Token
	d.ask(waits, codec.Request{ID: 2, Command: codec.Release, Key: []byte("k"), Token: token}, line(2, codec.OK))
	d.comes(joiners[0], line(2, codec.OK)) // one leads now
	d.comes(joiners[1])
	d.ask(joiners[1], codec.Request{ID: 3, Command: codec.Cancel, Ticket: 2}, line(2, codec.Canceled), line(3, codec.OK))
	d.comes(joiners[2])
	d.held(1)
}

func TestNobodyLearnsOfWhatIsNotOnDisk(t *testing.T) {
	d := newDesk(t)
	writes := d.onDisk()
	p, _, token := d.holds("k")
	q, _ := d.hello()
	d.ask(q, joinOf(1, "k", 0))
	d.ask(p, putOf(2, "k", "v", token))
	d.ask(q, getOf(2, "k"))
	d.ask(q, joinOf(3, "k", codec.AnyAge))
	d.ask(q, tryJoin(4, "k", 0))
	d.ask(q, getOf(5, "k"))
	d.ask(q, codec.Request{ID: 6, Command: codec.Cancel, Ticket: 5}, line(5, codec.Canceled), line(6, codec.OK))
	d.ask(p, codec.Request{ID: 3, Command: codec.Release, Key: []byte("k"), Token: token}, line(3, codec.OK))
	d.ask(q, codec.Request{ID: 7, Command: codec.Lock, Key: []byte("k")}) // a try that nothing but the disk stands in the way of
	d.held(0)
	if w := (*writes)[0]; len(*writes) != 1 || w.Key != "k" || string(w.Data) != "v" || w.Fence != 2 || w.Remove {
		t.Fatalf("writes %v", *writes)
	}
	d.passes(time.Second - 1)
	d.server.Settled(d.now, []byte("k"), true)
	a := d.comes(p, line(2, codec.OK))
	if a.Fence != 2 {
		t.Errorf("put: %v", a)
	}
	d.says(q.down[1], "v", 2, time.Second-1)
	d.comes(q, line(1, codec.Found), line(3, codec.Found), line(2, codec.Found), line(4, codec.Found), line(7, codec.OK))
	d.held(1)
}

func TestADiskThatFailed(t *testing.T) {
	d := newDesk(t)
	d.onDisk()
	p, _, token := d.holds("k")
	d.ask(p, putOf(2, "k", "v", token))
	d.ask(p, getOf(3, "k"))
	d.server.Settled(d.now, []byte("k"), false)
	d.comes(p, line(2, codec.Unavailable), line(3, codec.None))
	d.server.cfg.Persist = func(Write) bool { return false }
	d.ask(p, putOf(4, "k", "v", token), line(4, codec.Unavailable))
	d.ask(p, getOf(5, "k"), line(5, codec.None))
	d.server.cfg.Admit = func(time.Duration, int) Verdict { return Never }
	d.ask(p, putOf(6, "k", "v", token), line(6, codec.Unavailable))
	d.server.Settled(d.now, []byte("k"), true) // of nothing
	d.comes(p)
}

// One change after the other is taken, and then none any more.
func TestChangesSettleInTheirOrder(t *testing.T) {
	d := newDesk(t)
	writes := d.onDisk()
	p, _, token := d.holds("k")
	d.ask(p, putOf(2, "k", "one", token))
	d.ask(p, getOf(3, "k"))
	d.ask(p, delOf(4, "k", token))
	d.ask(p, delOf(5, "k", token))
	d.ask(p, putOf(6, "k", "two", token))
	d.server.cfg.Persist = func(Write) bool { return false }
	d.ask(p, putOf(7, "k", "three", token))
	if len(*writes) != 3 || !(*writes)[1].Remove || (*writes)[1].Fence != 2 {
		t.Fatalf("writes %v", *writes)
	}
	d.server.Settled(d.now, []byte("k"), true)
	d.says(d.comes(p, line(2, codec.OK), line(3, codec.Found)), "one", 2, 0)
	d.server.Settled(d.now, []byte("k"), true)
	d.comes(p, line(4, codec.OK), line(5, codec.None))
	d.ask(p, getOf(8, "k"))
	d.server.Settled(d.now, []byte("k"), true)
	d.comes(p, line(6, codec.OK), line(7, codec.Unavailable), line(8, codec.Found))
	d.says(d.ask(p, getOf(9, "k"), line(9, codec.Found)), "two", 3, 0)
}

func TestPutsWaitForFences(t *testing.T) {
	d, disk := newDurableDesk(t)
	p, _, token := d.holds("k")
	disk.admit = Later
	d.ask(p, putOf(2, "k", "v", token))
	disk.admit = Now
	q, _ := d.hello()
	d.ask(q, tryJoin(1, "k", 0))
	d.ask(p, delOf(3, "k", token)) // not before what came before
	d.retry(p, line(2, codec.OK), line(3, codec.OK))
	d.says(d.comes(q, line(1, codec.Found)), "v", 2, 0)
	d.table.SetCeiling(d.now, d.table.Fence())
	d.ask(p, putOf(4, "k", "v", token))
	d.table.SetCeiling(d.now, d.table.Fence()+1)
	d.retry(p, line(4, codec.OK))
}

func TestRepeatedPutsHaveOneEffect(t *testing.T) {
	for _, durable := range []bool{false, true} {
		d := newDesk(t)
		settle := func() {}
		if durable {
			d.onDisk()
			settle = func() { d.server.Settled(d.now, []byte("k"), true) }
		}
		p, id, token := d.holds("k")
		requests := []codec.Request{putOf(2, "k", "one", token), delOf(3, "k", token), delOf(4, "k", token), putOf(5, "k", "two", token)}
		for i := range requests {
			d.server.Request(d.now, p.link, &requests[i])
		}
		settle()
		for range 3 { // one answer after the other is lost
			d.server.Closed(d.now, p.link)
			p, _ = d.hello(resuming(id))
			for i := range requests {
				d.server.Request(d.now, p.link, &requests[i])
			}
		}
		settle()
		settle()
		slices.SortFunc(p.down, func(a, b codec.Answer) int { return int(a.ID) - int(b.ID) }) //nolint:gosec // they are small
		a := d.comes(p, line(2, codec.OK), line(3, codec.OK), line(4, codec.None), line(5, codec.OK))
		q, _ := d.hello()
		d.says(d.ask(q, getOf(1, "k"), line(1, codec.Found)), "two", 3, 0)
		if a.Fence != 3 {
			t.Errorf("durable %t: the second put took fence %d", durable, a.Fence)
		}
	}
}

func TestOutcomesAreForgottenAtTheSecondBeat(t *testing.T) {
	d := newDesk(t)
	p, id, token := d.holds("k")
	d.ask(p, putOf(2, "k", "one", token), line(2, codec.OK))
	d.ask(p, plain(3, codec.Beat), line(3, codec.OK))
	d.server.Closed(d.now, p.link)
	p, _ = d.hello(resuming(id))
	d.ask(p, putOf(2, "k", "one", token), line(2, codec.OK))
	d.ask(p, plain(4, codec.Beat), line(4, codec.OK))
	x := p.link.session
	if _, ok := x.outcomes.older[2]; !ok {
		t.Error("what was answered again was forgotten as if it had not been")
	}
	d.ask(p, plain(5, codec.Beat), line(5, codec.OK))
	if len(x.outcomes.older)+len(x.outcomes.recent) > 0 {
		t.Errorf("kept %v", x.outcomes)
	}
}

// Who does not beat cannot use up the memory of the server.
func TestOutcomesHaveACap(t *testing.T) {
	d := newDesk(t)
	p, _, token := d.holds("k")
	x := p.link.session
	for id := range uint64(maxOutcomes) {
		x.outcomes.add(1<<40+id, outcome{status: codec.OK})
	}
	d.ask(p, putOf(2, "k", "v", token), line(2, codec.Unavailable))
	d.ask(p, delOf(3, "k", token), line(3, codec.Unavailable))
	q, _ := d.hello()
	d.ask(q, tryJoin(1, "k", 0), line(1, codec.Timeout))
}

func TestAJoinThatWasAnsweredInAbsence(t *testing.T) {
	d := newDesk(t)
	p, _, token := d.holds("k")
	q, id := d.hello()
	d.ask(q, joinOf(1, "k", 0))
	d.server.Closed(d.now, q.link)
	d.ask(p, putOf(2, "k", "v", token), line(2, codec.OK))
	for range 2 {
		q, _ = d.hello(resuming(id))
		d.says(d.ask(q, joinOf(1, "k", 0), line(1, codec.Found)), "v", 2, 0)
	}
	d.ask(p, putOf(3, "k", "w", token), line(3, codec.OK))
	q, _ = d.hello(resuming(id))
	d.says(d.ask(q, joinOf(1, "k", 0), line(1, codec.Found)), "w", 3, 0)
	d.ask(q, plain(2, codec.Sync), line(2, codec.OK))
	if d.table.Waiting() != 0 {
		t.Error("it waits all the same")
	}
	d.ask(p, delOf(4, "k", token), line(4, codec.OK))
	q, _ = d.hello(resuming(id))
	d.ask(q, joinOf(1, "k", 0)) // there is nothing to answer it with any more
	if d.table.Waiting() != 1 {
		t.Error("it does not wait")
	}
}

func TestValuesMustBeOffered(t *testing.T) {
	d := newDesk(t)
	d.server.cfg.Values = false
	p, _, token := d.holds("k")
	for i, r := range []codec.Request{putOf(0, "k", "v", token), getOf(0, "k"), delOf(0, "k", token), joinOf(0, "k", 0)} {
		r.ID = uint64(2 + i)
		d.ask(p, r, line(r.ID, codec.Failed))
	}
	for offers, want := range map[string]string{"": "max-value=65536", "durable": "durable max-value=65536"} {
		s := NewServer(ServerConfig{Table: d.table, Values: true, Offers: []byte(offers)})
		if got := string(s.cfg.Offers); got != want {
			t.Errorf("%q became %q, want %q", offers, got, want)
		}
	}
}

// What was held up by the disk is no sign of life.
func TestTheDiskDoesNotMakeASessionHeard(t *testing.T) {
	d := newDesk(t)
	d.onDisk()
	p, _, token := d.holds("k")
	d.ask(p, lockOf(2, "z"), line(2, codec.OK))
	q, _ := d.hello()
	d.ask(q, lockOf(1, "z"))
	d.ask(p, putOf(3, "k", "v", token))
	d.ask(p, codec.Request{ID: 4, Command: codec.Release, Key: []byte("k"), Token: token}, line(4, codec.OK))
	d.ask(q, codec.Request{ID: 2, Command: codec.Lock, Key: []byte("k")})
	d.ask(q, tryJoin(3, "k", 0))
	d.ask(q, tryJoin(4, "k", time.Hour))
	d.passes(6 * time.Second)
	d.server.Settled(d.now, []byte("k"), false)
	d.comes(p, line(3, codec.Unavailable))
	d.comes(q, line(2, codec.Timeout), line(3, codec.Timeout), line(4, codec.Timeout))
	d.passes(4 * time.Second) // the lease of z ends
	d.comes(p, codec.Answer{Notice: codec.NoticeLost, Reason: codec.ReasonExpired})
	d.comes(q, line(1, codec.LeaseExpired))
	d.held(0)
}

// Whoever waits for a disk that hangs gets an answer when its time is up, but for
// who asked for the change: nobody knows what will become of that.
func TestNobodyWaitsForAHangingDiskForEver(t *testing.T) {
	d := newDesk(t)
	d.onDisk()
	p, _, token := d.holds("k")
	d.ask(p, putOf(2, "k", "v", token))
	q, _ := d.hello()
	wait := joinOf(3, "k", codec.AnyAge)
	wait.NoTimeout, wait.Timeout = false, 3*time.Second
	forever := joinOf(4, "k", codec.AnyAge)
	forever.NoTimeout = true
	d.ask(q, getOf(1, "k"))
	d.ask(q, tryJoin(2, "k", codec.AnyAge))
	d.ask(q, wait)
	d.ask(q, forever)
	d.ask(p, delOf(3, "k", token))
	d.ask(p, delOf(4, "k", token)) // of what is not there any more
	for at := time.Duration(0); at < 12*time.Second; at += time.Second {
		switch at {
		case time.Second:
			d.comes(q, line(2, codec.Timeout))
		case 3 * time.Second:
			d.comes(q, line(3, codec.Timeout))
		case 10 * time.Second:
			d.comes(q, line(1, codec.Unavailable))
			d.comes(p, line(4, codec.Unavailable))
		default:
			d.comes(q)
			d.comes(p)
		}
		d.ask(q, plain(10+uint64(at/time.Second), codec.Beat), line(10+uint64(at/time.Second), codec.OK)) //nolint:gosec // it is small
		d.ask(p, plain(10+uint64(at/time.Second), codec.Beat), line(10+uint64(at/time.Second), codec.OK)) //nolint:gosec // it is small
		d.passes(time.Second)
	}
	d.server.Settled(d.now, []byte("k"), true)
	d.comes(p, line(2, codec.OK))
	d.comes(q, line(4, codec.Found))
	d.server.Settled(d.now, []byte("k"), true)
	d.comes(p, line(3, codec.OK))
}

// A put that waits for the server to have a fence for it is refused in the end, and
// does not hold up what comes behind it any more.
func TestAPutWaitsForAFenceForAWhile(t *testing.T) {
	d, disk := newDurableDesk(t)
	p, _, token := d.holds("k")
	disk.admit = Later
	d.ask(p, putOf(2, "k", "v", token))
	for id := range uint64(10) {
		d.ask(p, plain(3+id, codec.Beat), line(3+id, codec.OK))
		d.retry(p)
		d.passes(time.Second)
	}
	d.comes(p, line(2, codec.Unavailable))
	disk.admit = Now
	d.ask(p, putOf(20, "k", "v", token), line(20, codec.OK))
}

// What is volatile is nobody's to write down: it counts at once, and is removed at
// once. What is on the disk, or may be, it replaces as all else does.
func TestVolatilePutsAreNotWritten(t *testing.T) {
	volatile := func(id uint64, data string, token codec.Token) codec.Request {
		r := putOf(id, "k", data, token)
		r.Volatile = true
		return r
	}
	d := newDesk(t)
	writes := d.onDisk()
	wrote := func(n int) {
		t.Helper()
		if len(*writes) != n {
			t.Fatalf("%d writes, want %d: %+v", len(*writes), n, *writes)
		}
	}
	p, _, token := d.holds("k")
	q, _ := d.hello()
	d.ask(q, joinOf(1, "k", 0))
	d.ask(p, volatile(2, "one", token), line(2, codec.OK))
	d.says(d.comes(q, line(1, codec.Found)), "one", 2, 0)
	d.ask(p, volatile(3, "two", token), line(3, codec.OK))
	d.ask(p, delOf(4, "k", token), line(4, codec.OK))
	d.ask(p, delOf(5, "k", token), line(5, codec.None))
	d.ask(p, volatile(6, "three", token), line(6, codec.OK))
	wrote(0)

	d.ask(p, putOf(7, "k", "kept", token))
	wrote(1)
	d.ask(p, volatile(8, "after what is on its way", token))
	d.ask(q, getOf(2, "k"))
	wrote(2)
	d.server.Settled(d.now, []byte("k"), true)
	d.comes(p, line(7, codec.OK))
	d.server.Settled(d.now, []byte("k"), true)
	d.comes(p, line(8, codec.OK))
	d.says(d.comes(q, line(2, codec.Found)), "after what is on its way", 6, 0)
	d.ask(p, volatile(9, "over what is on the disk", token))
	wrote(3)
	d.server.Settled(d.now, []byte("k"), true)
	d.comes(p, line(9, codec.OK))
	d.ask(p, delOf(10, "k", token))
	wrote(4)
	d.server.Settled(d.now, []byte("k"), true)
	d.comes(p, line(10, codec.OK))
	d.ask(p, volatile(11, "of nothing again", token), line(11, codec.OK))
	wrote(4)

	// What could not be written may be there after a restart, so from then on
	// nothing can be in its place that is not there itself.
	d.ask(p, putOf(12, "k", "lost", token))
	d.server.Settled(d.now, []byte("k"), false)
	d.comes(p, line(12, codec.Unavailable))
	d.server.cfg.Persist = func(Write) bool { return false }
	d.ask(p, volatile(13, "in doubt", token), line(13, codec.Unavailable))
}
