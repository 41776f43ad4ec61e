package server_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/server"
)

func TestCrashWithSessions(t *testing.T) {
	for _, power := range []bool{false, true} {
		onMachine(t, server.Config{}, func(t *testing.T, m *machine) {
			a := connect(m.s)
			id, offers := a.session(t)
			if offers != "durable max-value=65536" {
				t.Errorf("offers %q", offers)
			}
			token := a.framed(t, "1 l|k|- 10")
			share := a.framed(t, "2 sl|s|- 3 2 20")
			gone := a.framed(t, "3 l|gone|- 10")
			time.Sleep(time.Second)
			m.crash(power)
			a, b := connect(m.s), connect(m.s)
			a.expect(t, "hello|_|1 me resume="+id, "error_session claim")
			if _, offers := a.session(t); offers != "durable max-value=65536 grace=20000" && offers != "durable max-value=65536 grace=19999" {
				t.Errorf("offers %q", offers)
			}
			b.session(t)
			b.expect(t, "1 l|k|0 10", "1 timeout")
			b.ask(t, "2 l|k|- 60", "3 l|gone|- 60", "4 l|new|- 60")
			a.expect(t, "1 claim|k|"+token+" 10 1 1", "1 ok "+token+" 10000ms")
			a.expect(t, "2 claim|s|"+share+" 20 3 2", "2 ok "+share+" 20000ms")
			a.expect(t, "3 claim|k|"+share+" 20 3 2", "3 error")
			a.expect(t, "4 r|gone|"+gone, "4 ok")
			a.expect(t, "5 claim|gone|"+gone+" 10 1 1", "5 error")
			if st := m.s.Status(); st.State != server.StateGrace || !st.Durable || st.Err != nil || st.GraceEnds <= 19*time.Second {
				t.Errorf("status %+v", st)
			}
			began := time.Now()
			for i := range 9 {
				time.Sleep(2 * time.Second)
				a.expect(t, fmt.Sprintf("%d beat|_|_", 6+i), fmt.Sprintf("%d ok", 6+i))
				b.expect(t, fmt.Sprintf("%d beat|_|_", 6+i), fmt.Sprintf("%d ok", 6+i))
			}
			if got := b.get(t)[:5] + b.get(t)[:5]; got != "3 ok 4 ok " && got != "4 ok 3 ok " {
				t.Errorf("got %q", got)
			}
			if took := time.Since(began); took < 19*time.Second || took > 20*time.Second {
				t.Errorf("granted after %v", took)
			}
			if st := m.s.Status(); st.State != server.StateReady {
				t.Errorf("status %+v", st)
			}
			a.expect(t, "20 r|k|"+token, "20 ok")
			if got := b.get(t); !strings.HasPrefix(got, "2 ok ") || got[5:21] <= token[:16] {
				t.Errorf("got %q after the fence %s", got, token[:16])
			}
		})
	}
}

func TestCrashWithTheBaseProtocol(t *testing.T) {
	onMachine(t, server.Config{}, func(t *testing.T, m *machine) {
		a := connect(m.s)
		token := a.grant(t, "l|k|0")
		share := a.grant(t, "sl|k|0 3")
		m.crash(true)
		a, b := connect(m.s), connect(m.s)
		a.expect(t, "n|other|"+token, "error")
		a.expect(t, "n|k|"+token[:31]+"x", "error")
		a.expect(t, "n|k|"+token+" 600", "ok 33") // no longer than the one before can have been
		a.expect(t, "sn|k|"+share, "error")       // nobody can tell its limit
		b.expect(t, "l|k|0", "timeout")
		b.expect(t, "l|free|20", "timeout")
		a.expect(t, "n|k|"+token, "ok 33")
		b.expect(t, "l|free|12", "timeout")
		time.Sleep(time.Second)
		b.grant(t, "l|free|0")
		b.expect(t, "l|k|0", "timeout")
		a.expect(t, "r|k|"+token, "ok")
		b.grant(t, "l|k|0")
		a.expect(t, "n|k|"+token, "error")
	})
}

func TestCleanRestart(t *testing.T) {
	onMachine(t, server.Config{}, func(t *testing.T, m *machine) {
		old, dead := connect(m.s), connect(m.s)
		kept, other := old.grant(t, "l|k|0"), old.grant(t, "sl|s|0 2")
		a, waiter := connect(m.s), connect(m.s)
		id, _ := a.session(t)
		token := a.framed(t, "1 l|mine|- 10")
		waiter.session(t)
		waiter.ask(t, "1 l|mine|- 10")
		dead.ask(t, "l|k|100")
		synctest.Wait()
		done := shutdown(t.Context(), m.s)
		if got := dead.get(t); got != "error_draining" {
			t.Errorf("who waited got %q", got)
		}
		waiter.closed(t)
		a.closed(t)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		m.boot()
		if st := m.s.Status(); st.State != server.StateReady || st.GraceEnds != 0 {
			t.Errorf("status %+v", st)
		}
		a, b := connect(m.s), connect(m.s)
		b.grant(t, "l|free|0")
		b.expect(t, "l|mine|0", "timeout")
		b.expect(t, "l|k|0", "timeout")
		b.expect(t, "sn|s|"+other, "ok 33")
		b.grant(t, "sl|s|0 2")
		b.expect(t, "sl|s|0 2", "timeout")
		a.expect(t, "hello|_|1 me resume="+id, "error_session claim")
		_, offers := a.session(t)
		if offers != "durable max-value=65536" {
			t.Errorf("offers %q", offers)
		}
		a.expect(t, "1 claim|mine|"+token+" 10 1 1", "1 ok "+token+" 10000ms")
		b.expect(t, "n|k|"+kept, "ok 33")
		c := connect(m.s)
		c.expect(t, "hello|_|1 me resume="+id, "error_session") // all is claimed
		b.expect(t, "r|k|"+kept, "ok")
	})
}

func TestShutdownInTheGraceIsNotClean(t *testing.T) {
	onMachine(t, server.Config{}, func(t *testing.T, m *machine) {
		token := connect(m.s).grant(t, "l|k|0")
		m.crash(true)
		time.Sleep(5 * time.Second)
		m.restart()
		if st := m.s.Status(); st.State != server.StateGrace || st.GraceEnds < 32*time.Second {
			t.Errorf("status %+v", st)
		}
		connect(m.s).expect(t, "n|k|"+token, "ok 33")
	})
}

func TestLongLeases(t *testing.T) {
	onMachine(t, server.Config{}, func(t *testing.T, m *machine) {
		a, b := connect(m.s), connect(m.s)
		a.session(t)
		token := a.framed(t, "1 l|k|- 2h")
		released := a.framed(t, "2 l|released|- 2h")
		b.ask(t, "l|base|0 7200", "l|base|2 7200", "sl|slots|0 2 7200")
		base := b.granted(t, "7200")
		if got := b.get(t); got != "timeout" {
			t.Errorf("got %q", got)
		}
		share := b.granted(t, "7200")
		a.expect(t, "3 r|released|"+released, "3 ok")
		time.Sleep(100 * time.Millisecond)
		m.crash(true)
		if st := m.s.Status(); st.State != server.StateReady {
			t.Errorf("with leases that have records alone: %+v", st)
		}
		time.Sleep(100 * time.Minute)
		a, b = connect(m.s), connect(m.s)
		b.grant(t, "l|free|0")
		b.grant(t, "l|released|0")
		b.expect(t, "l|k|0", "timeout")
		b.expect(t, "l|base|0", "timeout")
		b.grant(t, "sl|slots|0 2")
		b.expect(t, "sl|slots|0 2", "timeout")
		a.session(t)
		a.expect(t, "1 claim|k|"+token+" 3h 1 1", "1 ok "+token+" 7200000ms")
		b.expect(t, "n|base|"+base+" 10", "ok 10")
		b.expect(t, "sn|slots|"+share+" 8000", "ok 7200")
		b.expect(t, "sn|slots|"+share+" 8000", "ok 8000")
		b.expect(t, "r|base|"+base, "ok")
		m.crash(true)
		b = connect(m.s)
		b.expect(t, "l|k|0", "timeout")
		time.Sleep(2*time.Hour + time.Minute)
		b = connect(m.s)
		b.grant(t, "l|k|0")
		b.grant(t, "sl|slots|0 2")
		b.expect(t, "sl|slots|0 2", "timeout")
	})
}

// TestNothingChangesWhileTheLeasesAreWritten stops a server whose disk takes its
// time.
func TestNothingChangesWhileTheLeasesAreWritten(t *testing.T) {
	onMachine(t, server.Config{}, func(t *testing.T, m *machine) {
		a, b, c := connect(m.s), connect(m.s), connect(m.s)
		a.session(t)
		framed := a.framed(t, "1 l|framed|- 30")
		base, forced := b.grant(t, "l|base|0"), b.grant(t, "l|forced|0")
		c.expect(t, "ping|_|_", "ok")
		d := connect(m.s)
		d.ask(t, "l|renewed|0 5")
		renewed := d.granted(t, "5")
		hangs := make(chan struct{})
		m.disk.set(func(d *memDisk) { d.hangs = hangs })
		done := shutdown(t.Context(), m.s)
		pending(t, done)
		a.send(wire("2 r|framed|" + framed))
		a.closed(t)
		b.send(wire("r|base|" + base))
		b.closed(t)
		c.send(wire("force|forced|lock"))
		c.closed(t)
		d.send(wire("n|renewed|" + renewed))
		d.closed(t)
		m.disk.set(func(d *memDisk) { d.hangs = nil })
		close(hangs)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		m.boot()
		p := connect(m.s)
		for key, token := range map[string]string{"framed": framed, "base": base, "forced": forced} {
			p.expect(t, "l|"+key+"|0", "timeout")
			p.expect(t, "r|"+key+"|"+token, "ok")
		}
	})
}

// TestFencesGrow crashes a server again and again, with a wall clock that goes
// wherever it wants.
func TestFencesGrow(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 2)) //nolint:gosec // it repeats itself on purpose
	cfg := server.Config{MaxGrace: 5 * time.Second, GCMaxIdle: 2 * time.Second}
	onMachine(t, cfg, func(t *testing.T, m *machine) {
		var steps atomic.Int64
		m.wall = func() time.Time { return time.Now().Add(time.Duration(steps.Load())) }
		last := map[string]string{}
		grants, graces := 0, 0
		for range 100 {
			graceEnds := time.Now().Add(m.s.Status().GraceEnds)
			p := connect(m.s)
			p.session(t)
			for id := 1; id < 20+random.IntN(60); id++ {
				key := fmt.Sprint("k", random.IntN(5))
				words := strings.Fields(p.do(t, fmt.Sprintf("%d l|%s|%d %d fences=%d", id, key, random.IntN(3), 1+random.IntN(5), 1+random.IntN(300))))
				if words[1] != "ok" {
					continue
				}
				grants++
				if time.Now().Before(graceEnds) {
					t.Fatalf("granted %v before the grace ends", time.Until(graceEnds))
				}
				if fence := words[2][:16]; fence <= last[key] {
					t.Fatalf("fence %s of %s after %s", fence, key, last[key])
				}
				last[key] = words[2][:16]
			}
			steps.Add(random.Int64N(int64(100*time.Hour)) - int64(60*time.Hour))
			if random.IntN(4) == 0 {
				m.restart()
			} else {
				m.crash(random.IntN(2) == 0)
				graces++
			}
		}
		if grants < 200 || graces < 20 {
			t.Errorf("%d grants, %d crashes", grants, graces)
		}
		t.Logf("%d grants, %d crashes", grants, graces)
	})
}
