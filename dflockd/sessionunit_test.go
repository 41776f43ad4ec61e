package dflockd

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/identity"
	"github.com/distributed-go/distributed/internal/session"
	"github.com/distributed-go/distributed/locker"
	lockserver "github.com/distributed-go/distributed/server"
)

func TestPulse(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	for _, c := range []struct {
		what string
		p    pulse
		now  time.Duration
		deed deed
		at   time.Duration
	}{
		{"a beat is due later", pulse{every: 2 * s, busy: true, beatAt: 10 * s}, 11 * s, doNothing, 12 * s},
		{"a beat is due", pulse{every: 2 * s, busy: true, beatAt: 10 * s}, 12 * s, doBeat, 13200 * ms},
		{"nobody needs it", pulse{every: 2 * s, beatAt: 10 * s}, 12 * s, doNothing, 20 * s},
		{"nobody needs it, and the server would close", pulse{every: 2 * s, beatAt: 10 * s}, 20 * s, doBeat, 21200 * ms},
		{"it is on its way", pulse{every: 2 * s, busy: true, beating: true, beatAt: 10 * s}, 11 * s, doNothing, 11200 * ms},
		{"it was not answered", pulse{every: 2 * s, busy: true, beating: true, beatAt: 10 * s}, 11200 * ms, doCut, 11200 * ms},
		{"but something else came", pulse{every: 2 * s, busy: true, beating: true, beatAt: 10 * s, heard: 11 * s}, 11200 * ms, doNothing, 12200 * ms},
		{"which is long ago", pulse{every: 2 * s, busy: true, beating: true, beatAt: 10 * s, heard: 11 * s}, 13 * s, doCut, 13 * s},
		{"a short lease", pulse{every: 100 * ms, busy: true, beatAt: 10 * s}, 10100 * ms, doBeat, 10200 * ms},
		{"a short lease on a slow network", pulse{every: 100 * ms, busy: true, beating: true, beatAt: 10 * s}, 10399 * ms, doNothing, 10400 * ms},
	} {
		if deed, at := c.p.next(c.now); deed != c.deed || at != c.at {
			t.Errorf("%s: %d, again at %v; want %d, %v", c.what, deed, at, c.deed, c.at)
		}
	}
}

// After a beat that is not answered there are two tries before the deadline,
// with any lease of two seconds or more: the first with as much time as the
// patience with the beat, the second with two thirds of that at least.
func TestPatienceLeavesTwoTries(t *testing.T) {
	for ttl := 2 * time.Second; ttl < time.Hour; ttl += ttl / 50 {
		every := min(ttl/3, 2*time.Second)
		p := patienceOf(every)
		deadline := session.Deadline(-every, ttl) // from the beat before
		if left := deadline - p - p; left < p*2/3 {
			t.Errorf("TTL %v: a beat every %v, patience %v, and %v left for the last try", ttl, every, p, left)
		}
	}
}

func TestWhatTheServerHasRead(t *testing.T) {
	l := new(link)
	say := func(id uint64) { l.append(&codec.Request{ID: id, Command: codec.Ping}) }
	say(1)
	one := l.sent
	say(2)
	say(3)
	if l.answered(2); l.read != one {
		t.Errorf("read %d, want %d: the answer to a later request shows that the first was read", l.read, one)
	}
	say(4)
	four := l.sent
	say(5)
	if l.answered(3); l.read != one {
		t.Errorf("read %d, want %d", l.read, one)
	}
	if l.answered(0); l.read != one {
		t.Errorf("read %d after a notice", l.read)
	}
	if l.answered(4); l.read != four || l.sent == four {
		t.Errorf("read %d of %d, want %d", l.read, l.sent, four)
	}
}

// A caller writes for itself only as long as that cannot block.
func TestCallersDoNotWriteToACongestedLink(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	b := newBackend(t, []string{where})
	b.UseClock(clockOf())
	x := newConversation(b.servers[0], "")
	l := &link{transport: transport{nc: near, raw: near, inline: true}, gone: make(chan struct{})}
	x.mu.Lock()
	x.link = l
	l.append(&codec.Request{ID: 1, Command: codec.Ping})
	if !x.claimLocked(l) || x.claimLocked(l) {
		t.Error("a lone caller should write, and only one")
	}
	l.flushing, l.sent = false, congested+l.read
	if x.claimLocked(l) {
		t.Error("a caller should write although the server may not be reading")
	}
	x.mu.Unlock()
	far.Close() // it ends the write in the background
	b.wg.Wait()
	b.Close()
}

func TestNames(t *testing.T) {
	long := strings.Repeat("x", 100)
	for _, c := range [][2]string{
		{identity.From("web-3", 4711, "worker"), "web-3/4711/worker"},
		{identity.From("a b", 1, "ü\n"), "a_b/1/__"},
	} {
		if c[0] != c[1] {
			t.Errorf("%q, want %q", c[0], c[1])
		}
	}
	for _, name := range []string{identity.From(long, 4194304, long), identity.From("", 1, long), identity.From(long, 1, ""), identity.Default()} {
		if err := codec.CheckName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"a b", strings.Repeat("x", 65), "\x1b[2J"} {
		_, err := New([]string{where}, WithName(name))
		wantErr(t, err, locker.ErrInvalid)
	}
}

func TestSessionParametersOfURLs(t *testing.T) {
	query, _ := url.ParseQuery("session=0&process=0&release-on-close=1&name=me")
	opts, _, err := options(query)
	if err != nil {
		t.Fatal(err)
	}
	c, err := configure(nil, opts)
	if err != nil || !c.base || !c.noProcess || !c.releaseOnClose || c.name != "me" {
		t.Errorf("%+v, %v", c, err)
	}
	byOption, err := configure(nil, []Option{WithBaseProtocol(), WithoutProcess(), WithReleaseOnClose(), WithName("me")})
	if err != nil || !byOption.base || !byOption.noProcess || !byOption.releaseOnClose || byOption.name != "me" {
		t.Errorf("%+v, %v", byOption, err)
	}
	for _, bad := range []string{"name=a+b", "session=2", "process=x"} {
		query, _ := url.ParseQuery(bad)
		if _, _, err := options(query); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

// A process names itself to its own machine alone.
func TestWhoIsToldTheProcess(t *testing.T) {
	unix, loopback := fakeConn{addr: &net.UnixAddr{Net: "unix"}}, fakeConn{addr: &net.TCPAddr{IP: net.IPv6loopback}}
	c := new(config)
	for _, nc := range []net.Conn{unix, loopback} {
		got := c.processFor(nc)
		if runtime.GOOS == "linux" && !strings.HasSuffix(got, fmt.Sprint(":", os.Getpid())) {
			t.Errorf("%v: %q", nc.RemoteAddr(), got)
		}
		if got := (&config{noProcess: true}).processFor(nc); got != "" {
			t.Errorf("%q is said although it should not be", got)
		}
	}
	if got := c.processFor(fakeConn{addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}}); got != "" {
		t.Errorf("another machine is told %q", got)
	}
}

type fakeConn struct {
	net.Conn
	addr net.Addr
}

func (c fakeConn) RemoteAddr() net.Addr { return c.addr }

func TestHelloSaysWhoThisIs(t *testing.T) {
	scriptBubble(t, func(s *script, _ int) {
		if s.expect("hello|_|1 me attempt=1 release-on-close") {
			s.say("error_draining")
		}
	}, func(t *testing.T, b *Backend, _ *network) {
		b.UseClock(clockOf())
		_, err := b.Acquire(context.Background(), lock("k"))
		wantErr(t, err, locker.ErrDraining)
	}, WithName("me"), WithReleaseOnClose())
}

func TestTheSizeOfAHold(t *testing.T) {
	if n := unsafe.Sizeof(grant{}); n > 80 {
		t.Errorf("a hold takes %d bytes, want at most 80", n)
	}
}

// What one lock and unlock allocates: the grant here, and the server's.
func TestAPairAllocatesTheGrantAlone(t *testing.T) {
	b := overTCP(t)
	allocs := testing.AllocsPerRun(2000, func() {
		mustRelease(t, b, hold("k", mustAcquire(t, b, lock("k"))))
	})
	t.Logf("%v allocations, the server's among them", allocs)
	if allocs > pairAllocations {
		t.Errorf("%v allocations", allocs)
	}
}

// TestAGrantSaysWhenItWasHeard: after the request, and before the caller has it.
func TestAGrantSaysWhenItWasHeard(t *testing.T) {
	b := overTCP(t)
	asked := b.clock()
	g := mustAcquire(t, b, lock("k"))
	if now := b.clock(); g.Heard < asked || g.Heard > now {
		t.Errorf("heard at %v of a grant that was asked for at %v and had at %v", g.Heard, asked, now)
	}
	mustRelease(t, b, hold("k", g))
}

func overTCP(t testing.TB) *Backend {
	b := newBackend(t, []string{startServer(t, lockserver.Config{})})
	b.UseClock(clockOf())
	t.Cleanup(func() { b.Close() })
	return b
}

// TestMemoryPerSessionHold measures what a hold costs here, without its key.
func TestMemoryPerSessionHold(t *testing.T) {
	const holds = 20_000
	b := newBackend(t, []string{where})
	b.UseClock(clockOf())
	defer b.Close()
	x := newConversation(b.servers[0], "")
	x.link = new(link)
	x.link.number = x.client.Connect(0)
	x.client.Line(0, x.link.number, &codec.Answer{Status: codec.OK, Version: 1})
	a := b.newAsk(codec.Lock, locker.Exclusive, "k")
	grants := make([]*grant, holds)
	before := heapNow()
	for i := range grants {
		g := x.newGrant(&locker.Request{Key: "k"})
		a.call.Hold = &g.Hold
		x.client.Do(0, &a.call)
		x.client.Line(0, x.link.number, &codec.Answer{ID: a.call.Request.ID, Status: codec.OK, HasToken: true, HasTTL: true, TTL: time.Minute})
		x.first, x.last, x.link.out = nil, nil, x.link.out[:0]
		grants[i] = g
	}
	per := float64(heapNow()-before) / holds
	t.Logf("%.1f B for each hold", per)
	if per > 84 {
		t.Errorf("%.1f B for each hold, want 80", per)
	}
	runtime.KeepAlive(grants)
	x.link = nil
}

func heapNow() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) //nolint:gosec // far below
}

// Goroutines of one process and of others, over real sockets that are cut again
// and again: nobody holds what somebody else holds.
func TestCutsOverTCP(t *testing.T) {
	proxy := newHoldback(t, startServer(t, lockserver.Config{}))
	var clients []*locker.Client
	for range 2 {
		c := locker.New(newBackend(t, []string{proxy.addr()}), locker.WithTTL(30*time.Second))
		defer c.Close()
		clients = append(clients, c)
	}
	for _, c := range clients { // a session each, before the cuts: else they might take the server for a stock one
		if l, err := c.Acquire(context.Background(), "first"); err != nil || l.Release(context.Background()) != nil {
			t.Fatal(err)
		}
	}
	var holders, total int // guarded by the lock
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for i := range 16 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				l, err := clients[i%2].Acquire(context.Background(), "k")
				if err != nil {
					t.Error(err)
					return
				}
				if holders++; holders != 1 {
					t.Errorf("%d hold", holders)
				}
				total++
				holders--
				if err := l.Release(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 30 {
		time.Sleep(20 * time.Millisecond) // real time: for something to be under way
		proxy.cut()
	}
	close(stop)
	wg.Wait()
	t.Logf("held %d times", total)
}

// BenchmarkSessionPairs is lock and unlock in session mode, by goroutines with a
// key each.
func BenchmarkSessionPairs(b *testing.B) {
	for _, goroutines := range []int{1, 100} {
		b.Run(fmt.Sprint("goroutines=", goroutines), func(b *testing.B) {
			pairs(b, goroutines, func(i int) string { return fmt.Sprint("key", i) }, overTCP(b))
		})
	}
}

// BenchmarkSessionContended is the same on one key, by 16 goroutines.
func BenchmarkSessionContended(b *testing.B) {
	pairs(b, 16, func(int) string { return "key" }, overTCP(b))
}

func TestParametersAreListed(t *testing.T) {
	for _, name := range []string{"session", "process", "release-on-close", "name"} {
		if !slices.Contains(parameterNames(), name) {
			t.Errorf("%s is no parameter", name)
		}
	}
}
