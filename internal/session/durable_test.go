package session

import (
	"testing"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/table"
)

// A disk says what a test makes it say.
type disk struct {
	admit, keep Verdict
	long        time.Duration // Keep is asked about longer ones alone; 0 is none
}

func newDurableDesk(t *testing.T) (*desk, *disk) {
	d, disk := newDesk(t), &disk{}
	d.server.cfg.Admit = func(time.Duration, int) Verdict { return disk.admit }
	d.server.cfg.Keep = func(_ *table.Lease, ttl time.Duration) Verdict {
		if disk.long == 0 || ttl <= disk.long {
			return Now
		}
		return disk.keep
	}
	return d, disk
}

func (d *desk) retry(p *pipe, want ...codec.Answer) codec.Answer {
	d.Helper()
	d.server.Retry(d.now)
	return d.comes(p, want...)
}

func TestRequestsWaitForTheDisk(t *testing.T) {
	d, disk := newDurableDesk(t)
	p, _ := d.hello()
	disk.admit = Later
	d.ask(p, lockOf(1, "k"))
	d.ask(p, enqueueOf(2, "z"))
	d.ask(p, lockOf(3, "x"))
	d.ask(p, plain(4, codec.Beat), line(4, codec.OK)) // passes them by
	d.ask(p, codec.Request{ID: 5, Command: codec.Cancel, Ticket: 3}, line(3, codec.Canceled), line(5, codec.OK))
	d.held(0)
	d.retry(p)
	disk.admit = Now
	d.retry(p, line(1, codec.OK), line(2, codec.Acquired))
	d.held(2)
	disk.admit = Later
	d.ask(p, lockOf(6, "order"))
	disk.admit = Now
	d.ask(p, lockOf(7, "order"))
	d.ask(p, lockOf(8, "another"), line(8, codec.OK))
	d.retry(p, line(6, codec.OK))
	disk.admit = Never
	d.ask(p, lockOf(9, "y"), line(9, codec.Failed))
	d.held(4)
}

func TestRenewalsWaitForTheDisk(t *testing.T) {
	d, disk := newDurableDesk(t)
	p, id := d.hello()
	a := d.ask(p, lockOf(1, "k"), line(1, codec.OK))
	q, _ := d.hello(resuming(id))
	d.comes(p, codec.Answer{Notice: codec.NoticeDisplaced})
	renew := codec.Request{ID: 2, Command: codec.Renew, Key: []byte("k"), Token: a.Token, TTL: time.Minute}
	disk.admit = Later
	d.ask(q, renew)
	d.ask(q, plain(3, codec.Sync), line(3, codec.OK))
	d.held(1)
	disk.admit = Now
	if a := d.retry(q, line(2, codec.OK)); a.TTL != time.Minute {
		t.Errorf("renewed for %v", a.TTL)
	}
	disk.admit = Never
	renew.ID, renew.TTL = 4, time.Hour
	if a := d.ask(q, renew, line(4, codec.OK)); a.TTL != time.Minute {
		t.Errorf("without a disk renewed for %v", a.TTL)
	}
}

func TestParkedRequestsEndWithTheirLink(t *testing.T) {
	d, disk := newDurableDesk(t)
	p, id := d.hello()
	disk.admit = Later
	d.ask(p, lockOf(1, "k"))
	q, _ := d.hello(resuming(id))
	d.comes(p, codec.Answer{Notice: codec.NoticeDisplaced})
	d.ask(q, lockOf(1, "k"))
	d.ask(q, plain(2, codec.Sync), line(2, codec.OK))
	disk.admit = Now
	d.retry(q, line(1, codec.OK))
	d.comes(p)
	d.held(1)
}

func TestGrantsAreKeptBack(t *testing.T) {
	d, disk := newDurableDesk(t)
	p, id := d.hello()
	q, _ := d.hello()
	disk.long, disk.keep = 5*time.Second, Later
	d.ask(p, lockOf(1, "k"))
	d.held(1)
	d.ask(q, lockOf(1, "k"))
	d.retry(p)
	// What is kept back is answered from the lease when it is asked for again.
	r, _ := d.hello(resuming(id))
	d.comes(p, codec.Answer{Notice: codec.NoticeDisplaced})
	d.ask(r, lockOf(1, "k"))
	d.ask(r, plain(2, codec.Sync), line(2, codec.OK))
	disk.keep = Now
	a := d.retry(r, line(1, codec.OK))
	d.comes(p)
	// A turn that comes is kept back too, and given back if there is no hope.
	disk.keep = Later
	d.ask(r, codec.Request{ID: 3, Command: codec.Release, Key: []byte("k"), Token: a.Token}, line(3, codec.OK))
	d.comes(q)
	d.held(1)
	disk.keep = Never
	d.retry(q, line(1, codec.Failed))
	d.held(0)
}

func TestGrantKeptBackForTooLong(t *testing.T) {
	d, disk := newDurableDesk(t)
	p, _ := d.hello()
	disk.long, disk.keep = 5*time.Second, Later
	d.ask(p, lockOf(1, "k"))
	d.passes(11 * time.Second)
	p.down = nil // the loss of what it never heard of
	d.retry(p, line(1, codec.LeaseExpired))
}

// newServer returns a server of the world, and its table.
func newServer(w *world, cfg table.Config) (*Server, *table.Table) {
	cfg.Sign = func(k table.Kind, key string, fence uint64, limit, weight int) uint64 {
		return ^fence ^ uint64(len(key)+10*limit+1000*weight)<<8 ^ uint64(k)
	}
	cfg.MaxIdle, cfg.PruneInterval = time.Minute, time.Second
	t, serial := table.New(cfg), w.serial
	s := NewServer(ServerConfig{
		Table: t, TTL: 10 * time.Second, Values: true,
		NewID: func() (id codec.SessionID) {
			*serial++
			id[0], id[1], id[2] = byte(*serial), byte(*serial>>8), byte(*serial>>16)
			return id
		},
	})
	return s, t
}

// restart gives the desk a new server over a table in its grace, of 10 s.
func (d *desk) restart() {
	d.world.server, d.world.table = newServer(d.world, table.Config{
		FirstFence: d.table.Fence(), GraceEnd: d.now + 10*time.Second, ClaimTTL: 20 * time.Second,
	})
}

func claimOf(id uint64, key string, token codec.Token, limit, weight int) codec.Request {
	return codec.Request{ID: id, Command: codec.Claim, Key: []byte(key), Token: token, TTL: 15 * time.Second, Limit: limit, Weight: weight}
}

func TestClaims(t *testing.T) {
	d := newDesk(t)
	p, id := d.hello()
	k := d.ask(p, lockOf(1, "k"), line(1, codec.OK))
	share := lockOf(2, "k")
	share.Semaphore, share.Limit, share.Weight = true, 3, 2
	s := d.ask(p, share, line(2, codec.OK))
	one := lockOf(3, "one")
	one.Semaphore, one.Limit, one.Weight = true, 1, 1
	o := d.ask(p, one, line(3, codec.OK))
	d.restart()
	if link, a := d.server.Hello(d.now, 0, &codec.Greeting{Version: 1, Name: "me", Resume: id, Resuming: true}, p); link != nil || a.Status != codec.ErrSession || !a.Claim {
		t.Fatalf("resumed in the grace: %v", a)
	}
	q, _ := d.hello()
	d.ask(q, codec.Request{ID: 1, Command: codec.Lock, Key: []byte("k")}, line(1, codec.Timeout))
	d.ask(q, lockOf(2, "k"))
	a := d.ask(q, claimOf(3, "k", k.Token, 1, 1), line(3, codec.OK))
	if a.Token != k.Token || a.TTL != 15*time.Second {
		t.Errorf("claimed %v", a)
	}
	d.ask(q, claimOf(4, "k", s.Token, 3, 2), line(4, codec.OK))
	d.ask(q, claimOf(5, "one", o.Token, 1, 1), line(5, codec.OK))
	d.ask(q, claimOf(6, "other", k.Token, 1, 1), line(6, codec.Failed))
	d.ask(q, claimOf(7, "k", k.Token, 1, 2), line(7, codec.Failed))
	d.held(3)
	if r, ok := d.table.Lookup(d.now, table.Semaphore, []byte("one")); !ok || r.Holders != 1 {
		t.Errorf("the semaphore of limit 1: %+v, %t", r, ok)
	}
	d.passes(9 * time.Second)
	d.ask(q, plain(8, codec.Beat), line(8, codec.OK))
	d.passes(2 * time.Second)
	if link, a := d.server.Hello(d.now, 0, &codec.Greeting{Version: 1, Name: "me", Resume: id, Resuming: true}, p); link != nil || a.Claim {
		t.Errorf("resumed after the grace: %v", a)
	}
	d.ask(q, codec.Request{ID: 9, Command: codec.Release, Key: []byte("k"), Token: k.Token}, line(2, codec.OK), line(9, codec.OK))
}

func TestClaimComesAgain(t *testing.T) {
	d := newDesk(t)
	p, _ := d.hello()
	share := lockOf(1, "k")
	share.Semaphore, share.Limit, share.Weight = true, 3, 2
	s := d.ask(p, share, line(1, codec.OK))
	d.restart()
	p, id := d.hello()
	d.ask(p, claimOf(1, "k", s.Token, 3, 2), line(1, codec.OK))
	q, _ := d.hello(resuming(id))
	d.ask(q, claimOf(1, "k", s.Token, 3, 2), line(1, codec.OK))
	d.ask(q, plain(2, codec.Sync), line(2, codec.OK))
	d.held(1)
}

func TestReleaseAfterARestart(t *testing.T) {
	d := newDesk(t)
	p, _ := d.hello()
	a := d.ask(p, lockOf(1, "k"), line(1, codec.OK))
	d.restart()
	p, _ = d.hello()
	d.ask(p, codec.Request{ID: 1, Command: codec.Release, Key: []byte("k"), Token: a.Token}, line(1, codec.OK))
	d.ask(p, claimOf(2, "k", a.Token, 1, 1), line(2, codec.Failed))
	d.held(0)
}

func TestOffers(t *testing.T) {
	d := newDesk(t)
	d.server.cfg.Offers = []byte("durable")
	offers := func() string {
		_, a := d.server.Hello(d.now, 0, &codec.Greeting{Version: 1, Name: "me"}, &pipe{})
		return string(a.Offers)
	}
	if got := offers(); got != "durable" {
		t.Errorf("offers %q", got)
	}
	d.restart()
	d.passes(2500 * time.Millisecond)
	if got := offers(); got != "max-value=65536 grace=7500" {
		t.Errorf("in the grace offers %q", got)
	}
	d.server.cfg.Offers = []byte("durable")
	if got := offers(); got != "durable grace=7500" {
		t.Errorf("in the grace offers %q", got)
	}
}

func TestStoppedServerHearsNobody(t *testing.T) {
	d := newDesk(t)
	p, id := d.hello()
	a := d.ask(p, lockOf(1, "k"), line(1, codec.OK))
	d.server.Stop()
	d.ask(p, codec.Request{ID: 2, Command: codec.Release, Key: []byte("k"), Token: a.Token})
	d.server.Closed(d.now, p.link)
	d.held(1)
	if p.serverOpen {
		t.Error("its connection is open")
	}
	if link, a := d.server.Hello(d.now, 0, &codec.Greeting{Version: 1, Name: "me", Resume: id, Resuming: true}, p); link != nil || a.Status != codec.Draining {
		t.Errorf("hello: %v", a)
	}
}

func TestParkedRequestsGiveUp(t *testing.T) {
	d, disk := newDurableDesk(t)
	p, _ := d.hello()
	a := d.ask(p, lockOf(1, "k"), line(1, codec.OK))
	disk.admit = Later
	timed, try, endless := lockOf(2, "timed"), lockOf(3, "try"), lockOf(4, "endless")
	timed.Timeout, timed.NoTimeout = 5*time.Second, false
	try.Timeout, try.NoTimeout = 0, false
	endless.NoTimeout = true
	d.ask(p, timed)
	d.ask(p, try)
	d.ask(p, endless)
	d.ask(p, codec.Request{ID: 5, Command: codec.Renew, Key: []byte("k"), Token: a.Token, TTL: time.Hour})
	if at, ok := d.server.Next(); !ok || at > d.now+patience {
		t.Errorf("next at %v, %v; now is %v", at, ok, d.now)
	}
	d.passes(patience)
	if a := d.comes(p, line(3, codec.Timeout), line(5, codec.OK)); a.TTL != 10*time.Second {
		t.Errorf("renewed for %v", a.TTL)
	}
	d.retry(p)
	d.passes(5*time.Second - patience)
	d.comes(p, line(2, codec.Timeout))
	d.passes(3 * time.Second)
	d.ask(p, plain(6, codec.Beat), line(6, codec.OK))
	disk.admit = Now
	d.retry(p, line(4, codec.OK))
	d.held(2)
}

func TestGrantsThatAreKeptBackGiveUp(t *testing.T) {
	d, disk := newDurableDesk(t)
	p, _ := d.hello()
	disk.long, disk.keep = 5*time.Second, Later
	try := lockOf(1, "k")
	try.Timeout, try.NoTimeout = 0, false
	d.ask(p, try)
	d.held(1)
	d.passes(patience / 2)
	d.retry(p)
	d.passes(patience / 2)
	d.comes(p, line(1, codec.Timeout))
	d.held(0)
	disk.keep = Full
	d.ask(p, lockOf(2, "k"), line(2, codec.MaxLocks))
	d.held(0)
}

// TestStopLeavesOutWhatNobodyHeardOf stops a server with a grant that waits for
// the disk, one that waits for its client to come back, and one that was told.
func TestStopLeavesOutWhatNobodyHeardOf(t *testing.T) {
	d, disk := newDurableDesk(t)
	p, _ := d.hello()
	q, _ := d.hello()
	told := d.ask(p, lockOf(1, "told"), line(1, codec.OK))
	away := d.ask(p, lockOf(2, "away"), line(2, codec.OK))
	d.ask(q, lockOf(1, "away"))
	d.server.Closed(d.now, q.link)
	d.ask(p, codec.Request{ID: 3, Command: codec.Release, Key: []byte("away"), Token: away.Token}, line(3, codec.OK))
	disk.long, disk.keep = 5*time.Second, Later
	d.ask(p, lockOf(4, "parked"))
	d.held(3)
	d.server.Stop()
	all := d.table.Records(d.now)
	if len(all) != 1 || all[0].Key != "told" || all[0].Fence != FromWire(told.Token).Fence {
		t.Errorf("records %+v", all)
	}
}
