package server_test

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/server"
)

func TestRequestsBehindAWaitStayUndone(t *testing.T) {
	inVirtualTime(t, server.Config{}, func(t *testing.T, s *server.Server) {
		a, b := connect(s), connect(s)
		token := a.grant(t, "l|k|0")
		// The waiter would release the lock itself, behind its own wait.
		b.ask(t, "l|k|10", "r|k|"+token, "l|other|0")
		b.silent(t)
		other := a.grant(t, "l|other|0")
		a.expect(t, "r|other|"+other, "ok")
		if got := b.get(t); got != "timeout" {
			t.Errorf("the wait was answered %q", got)
		}
		if got := b.get(t); got != "ok" {
			t.Errorf("the release was answered %q", got)
		}
		b.granted(t, "33")
	})
}

func TestWaitsTakeTheirTime(t *testing.T) {
	inVirtualTime(t, server.Config{}, func(t *testing.T, s *server.Server) {
		a, b := connect(s), connect(s)
		a.ask(t, "l|k|0 1000000")
		a.granted(t, "1000000")
		go keepAlive(a)
		for _, seconds := range []int{1, 22, 23, 24, 1000} {
			began := time.Now()
			b.expect(t, fmt.Sprintf("l|k|%d", seconds), "timeout")
			if took := time.Since(began); took != time.Duration(seconds)*time.Second {
				t.Errorf("a wait of %d s took %v", seconds, took)
			}
		}
		b.expect(t, "l|k|0", "timeout")
	})
}

// keepAlive sends something before the read timeout closes the connection.
func keepAlive(p *peer) {
	for p.send(wire("ping|_|_")) == nil {
		if _, err := p.line(time.Hour); err != nil {
			return
		}
		time.Sleep(5 * time.Second)
	}
}

func TestLeaseIsHandedOverTheInstantItEnds(t *testing.T) {
	inVirtualTime(t, server.Config{LeaseSweepInterval: time.Hour}, func(t *testing.T, s *server.Server) {
		a, b, c := connect(s), connect(s), connect(s)
		began := time.Now()
		a.ask(t, "l|k|0 2", "sl|k|0 1 3")
		a.granted(t, "2")
		a.granted(t, "3")
		b.ask(t, "l|k|100")
		c.ask(t, "sl|k|100 1")
		b.granted(t, "33")
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("the lock was handed over after %v", took)
		}
		c.granted(t, "33")
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("the semaphore was handed over after %v", took)
		}
	})
}

func TestRenewalMovesTheEnd(t *testing.T) {
	inVirtualTime(t, server.Config{DefaultLeaseTTL: 20 * time.Second}, func(t *testing.T, s *server.Server) {
		a, b := connect(s), connect(s)
		began := time.Now()
		a.ask(t, "l|k|0 5")
		token := a.granted(t, "5")
		b.ask(t, "l|k|100")
		time.Sleep(4 * time.Second)
		a.expect(t, "n|k|"+token+" 10", "ok 10")
		time.Sleep(9 * time.Second)
		a.expect(t, "n|k|"+token, "ok 20") // the default, not the ten of before
		time.Sleep(time.Second)
		a.expect(t, "n|k|"+token+" 1", "ok 1") // shorter than what was left
		b.granted(t, "20")
		if took := time.Since(began); took != 15*time.Second {
			t.Errorf("handed over after %v, want 15s", took)
		}
		a.expect(t, "n|k|"+token+" 5", "error")
		a.expect(t, "r|k|"+token, "error")
	})
}

func TestManyWaitersAreServedInOrder(t *testing.T) {
	inVirtualTime(t, server.Config{}, func(t *testing.T, s *server.Server) {
		const waiters = 200
		holder := connect(s)
		token := holder.grant(t, "l|k|0")
		queue := make([]*peer, waiters)
		for i := range queue {
			queue[i] = connect(s)
			if i%2 == 0 {
				queue[i].ask(t, "l|k|1000")
			} else {
				queue[i].expect(t, "e|k|", "queued")
				queue[i].ask(t, "w|k|1000")
			}
			synctest.Wait()
		}
		if l := s.Stats().Locks; len(l) != 1 || l[0].Waiters != waiters {
			t.Fatalf("locks are %v", l)
		}
		last := uint64(0)
		for i, p := range queue {
			holder.expect(t, "r|k|"+token, "ok")
			token = p.granted(t, "33")
			if f := fence(t, token); f <= last {
				t.Fatalf("waiter %d has the fence %d after %d", i, f, last)
			} else {
				last = f
			}
			if i+1 < waiters {
				queue[i+1].silent(t)
			}
			holder = p
		}
	})
}

func fence(t testing.TB, token string) uint64 {
	t.Helper()
	f, err := strconv.ParseUint(token[:16], 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestTwoPhase(t *testing.T) {
	inVirtualTime(t, server.Config{}, func(t *testing.T, s *server.Server) {
		a, b := connect(s), connect(s)

		t.Log("wait starts the lease anew as it answers")
		a.ask(t, "e|k|3")
		token := a.granted(t, "3")
		time.Sleep(2 * time.Second)
		a.ask(t, "w|k|0")
		if got := a.granted(t, "3"); got != token {
			t.Fatalf("wait gave another token")
		}
		b.ask(t, "l|k|100")
		began := time.Now()
		b.granted(t, "33")
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("the lease ended %v after the wait, want 3s", took)
		}
		a.expect(t, "w|k|0", "error_not_enqueued")

		t.Log("a wait of nothing gives up the place")
		a.expect(t, "e|k|", "queued")
		a.expect(t, "w|k|0", "timeout")
		a.expect(t, "w|k|0", "error_not_enqueued")
	})
}

func TestATicketEnds(t *testing.T) {
	inVirtualTime(t, server.Config{}, func(t *testing.T, s *server.Server) {
		a, b := connect(s), connect(s)
		t.Log("by the release of its token, on whatever connection")
		for _, releaser := range []*peer{a, b} {
			token := a.grant(t, "e|k|")
			a.expect(t, "e|k|", "error_already_enqueued")
			releaser.expect(t, "r|k|"+token, "ok")
			token = a.grant(t, "e|k|")
			a.expect(t, "r|k|"+token, "ok")
			a.expect(t, "w|k|0", "error_not_enqueued")
		}

		t.Log("by the answer of wait")
		token := a.grant(t, "e|k|")
		a.ask(t, "w|k|0")
		a.granted(t, "33")
		a.expect(t, "e|k|", "queued") // behind its own hold
		a.expect(t, "r|k|"+token, "ok")
		a.ask(t, "w|k|0")
		token = a.granted(t, "33")
		a.expect(t, "r|k|"+token, "ok")

		t.Log("but not by running out")
		a.ask(t, "e|k|1")
		a.granted(t, "1")
		time.Sleep(2 * time.Second)
		a.expect(t, "e|k|", "error_already_enqueued")
		a.expect(t, "w|k|5", "error_lease_expired")
		a.grant(t, "e|k|")

		t.Log("and is not anybody else's")
		b.expect(t, "w|k|0", "error_not_enqueued")
		b.expect(t, "sw|k|0", "error_not_enqueued")
		b.ask(t, "se|k|1")
		b.granted(t, "33")
	})
}

func TestAGrantBeforeWaitIsKeptForItsLease(t *testing.T) {
	inVirtualTime(t, server.Config{}, func(t *testing.T, s *server.Server) {
		a, b, c := connect(s), connect(s), connect(s)
		token := a.grant(t, "l|k|0")
		b.expect(t, "e|k|5", "queued")
		a.expect(t, "r|k|"+token, "ok")
		time.Sleep(4 * time.Second)
		c.expect(t, "l|k|0", "timeout")
		c.ask(t, "l|k|100")
		time.Sleep(time.Second)
		c.granted(t, "33")
		b.expect(t, "w|k|100", "error_lease_expired")
	})
}

func TestTicketsThatNobodyWantsAreForgotten(t *testing.T) {
	inVirtualTime(t, server.Config{}, func(t *testing.T, s *server.Server) {
		p := connect(s)
		p.ask(t, "e|first|1")
		p.granted(t, "1")
		time.Sleep(2 * time.Second)
		live := p.grant(t, "e|live|")
		for i := range 3000 {
			p.ask(t, fmt.Sprintf("e|key%d|1", i))
			token := p.granted(t, "1")
			p.expect(t, fmt.Sprintf("r|key%d|%s", i, token), "ok")
		}
		p.expect(t, "w|first|0", "error_not_enqueued")
		p.ask(t, "w|live|0")
		if got := p.granted(t, "33"); got != live {
			t.Error("a ticket in use was forgotten")
		}
	})
}

func TestTokensCannotBeGuessedOrUsedElsewhere(t *testing.T) {
	inVirtualTime(t, server.Config{}, func(t *testing.T, s *server.Server) {
		p := connect(s)
		token := p.grant(t, "l|k|0")
		other := p.grant(t, "l|other|0")
		sem := p.grant(t, "sl|k|0 2")
		for name, bad := range map[string]string{
			"another key's": other, "another kind's": sem, "the fence alone": token[:16] + strings.Repeat("0", 16), "upper case": strings.ToUpper(token),
		} {
			if bad == token {
				continue // upper case of digits alone
			}
			p.expect(t, "r|k|"+bad, "error")
			p.expect(t, "n|k|"+bad+" 5", "error")
			t.Log(name)
		}
		for bit := range 128 {
			p.expect(t, "r|k|"+flip(t, token, bit), "error")
		}
		p.expect(t, "sr|k|"+token, "error")
		p.expect(t, "sn|other|"+sem, "error")
		p.expect(t, "r|k|"+token, "ok")
	})
}

// flip returns the token with one bit changed.
func flip(t testing.TB, token string, bit int) string {
	t.Helper()
	digit, err := strconv.ParseUint(token[bit/4:bit/4+1], 16, 8)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s%x%s", token[:bit/4], digit^1<<(bit%4), token[bit/4+1:])
}

func TestSecondHalvesOfTokensLookRandom(t *testing.T) {
	inVirtualTime(t, server.Config{}, func(t *testing.T, s *server.Server) {
		p := connect(s)
		const tokens = 1000
		ones := 0
		seen := map[string]bool{}
		for range tokens {
			token := p.grant(t, "l|k|0")
			p.expect(t, "r|k|"+token, "ok")
			half, err := strconv.ParseUint(token[16:], 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			ones += bits.OnesCount64(half)
			seen[token[16:]] = true
		}
		// 32,000 expected, with a deviation of 126.
		if len(seen) != tokens || ones < 31000 || ones > 33000 {
			t.Errorf("%d different halves with %d ones", len(seen), ones)
		}
	})
}

func TestFencesGrowOverRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		last := uint64(time.Now().UnixNano()) - 1
		for range 5 {
			s := start(t, server.Config{})
			p := connect(s)
			for _, request := range []string{"l|a|0", "l|b|0", "sl|a|0 9", "sl|a|0 9", "e|c|"} {
				f := fence(t, p.grant(t, request))
				if f <= last {
					t.Fatalf("fence %d after %d", f, last)
				}
				last = f
			}
			s.Close()
			time.Sleep(time.Microsecond) // a restart takes longer
		}
	})
}

func TestTokensOfAnEarlierRunAreWorthNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// In virtual time both runs begin at one instant, so even the fences
		// are the same; only the key of the MAC differs.
		s1, s2 := start(t, server.Config{}), start(t, server.Config{})
		one, two := connect(s1), connect(s2)
		old, current := one.grant(t, "l|k|0"), two.grant(t, "l|k|0")
		if old[:16] != current[:16] {
			t.Errorf("the fences are %s and %s", old[:16], current[:16])
		}
		two.expect(t, "r|k|"+old, "error")
		two.expect(t, "r|k|"+current, "ok")
		s1.Close()
		s2.Close()
	})
}

func TestDurationsWithoutEnd(t *testing.T) {
	inVirtualTime(t, server.Config{}, func(t *testing.T, s *server.Server) {
		a, b := connect(s), connect(s)
		a.ask(t, "l|k|9223372036 9223372036")
		token := a.granted(t, "3153600000") // a hundred years
		a.expect(t, "n|k|"+token+" 9223372036", "ok 3153600000")
		b.ask(t, "l|k|9223372036")
		b.silent(t)
		a.expect(t, "r|k|"+token, "ok")
		b.granted(t, "33")
	})
}

func TestLimitOfASemaphoreUntilItIsForgotten(t *testing.T) {
	inVirtualTime(t, server.Config{GCMaxIdle: 10 * time.Second, GCInterval: time.Second}, func(t *testing.T, s *server.Server) {
		p := connect(s)
		token := p.grant(t, "sl|k|0 2147483647")
		p.expect(t, "sl|k|0 2", "error_limit_mismatch")
		p.expect(t, "sr|k|"+token, "ok")
		p.expect(t, "se|k|2", "error_limit_mismatch")
		time.Sleep(11 * time.Second)
		p.grant(t, "sl|k|0 2")
	})
}

func TestCaps(t *testing.T) {
	inVirtualTime(t, server.Config{MaxLocks: 2, MaxWaiters: 1}, func(t *testing.T, s *server.Server) {
		a, b, c := connect(s), connect(s), connect(s)
		token := a.grant(t, "l|k1|0")
		a.grant(t, "sl|k1|0 1")
		a.expect(t, "l|k2|5", "error_max_locks")
		a.expect(t, "se|k2|1", "error_max_locks")
		b.ask(t, "l|k1|5")
		synctest.Wait()
		c.expect(t, "l|k1|5", "error_max_waiters")
		c.expect(t, "l|k1|0", "timeout")
		c.expect(t, "e|k1|", "error_max_waiters")
		if got := b.get(t); got != "timeout" {
			t.Errorf("got %q", got)
		}
		a.expect(t, "r|k1|"+token, "ok")
		c.grant(t, "l|k2|0") // an idle key makes room
	})
}

func TestStats(t *testing.T) {
	inVirtualTime(t, server.Config{}, func(t *testing.T, s *server.Server) {
		a := connect(s)
		synctest.Wait() // so that it is number 1
		b := connect(s)
		const empty = `{"connections":2,"locks":[],"semaphores":[],"idle_locks":[],"idle_semaphores":[],"state":"ready"}`
		synctest.Wait()
		a.expect(t, "stats|_|_", "ok "+empty)
		idle, idleSem := a.grant(t, "l|idle|0"), a.grant(t, "sl|idle|0 1")
		a.ask(t, "r|idle|"+idle, "sr|idle|"+idleSem)
		a.get(t)
		a.get(t)
		a.grant(t, `l|quo"te<|0`)
		b.grant(t, "l|a|0")
		a.grant(t, "sl|s|0 2")
		b.grant(t, "sl|s|0 2")
		b.ask(t, "sl|s|5 2")
		time.Sleep(1500 * time.Millisecond)
		a.expect(t, "stats|_|_", `ok {"connections":2,`+
			`"locks":[{"key":"a","owner_conn_id":2,"lease_expires_in_s":31.5,"waiters":0,"held_s":1.5},{"key":"quo\"te<","owner_conn_id":1,"lease_expires_in_s":31.5,"waiters":0,"held_s":1.5}],`+
			`"semaphores":[{"key":"s","limit":2,"holders":2,"waiters":1,"owners":[{"name":"","weight":1,"held_s":1.5},{"name":"","weight":1,"held_s":1.5}]}],`+
			`"idle_locks":[{"key":"idle","idle_s":1.5}],"idle_semaphores":[{"key":"idle","idle_s":1.5}],"state":"ready"}`)
	})
}
