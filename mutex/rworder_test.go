package mutex_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/memory"
	"github.com/distributed-go/distributed/mutex"
)

// rws returns an RW on one key for each of n clients.
func rws(t testing.TB, s *memory.Server, n int) []*mutex.RW {
	t.Helper()
	var all []*mutex.RW
	for range n {
		all = append(all, mutex.NewRW(newClient(t, s), "k"))
	}
	return all
}

// expectOrder plays a script of readers and writers, "RRWR", who come one after
// the other, each at a client of its own choice, while the key is held for
// writing. It checks that they are served in that order, readers who came
// together at the same time.
func expectOrder(t *testing.T, script string, clients int) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		all := rws(t, s, clients)
		all[0].Lock()
		began := time.Now()
		var wg sync.WaitGroup
		want, at := make([]string, 0, len(script)), 0
		got := make([]string, len(script))
		for i, kind := range script {
			mu := all[rand.IntN(clients)]
			var l sync.Locker = mu
			if kind == 'R' {
				l = mu.RLocker()
			}
			wg.Go(func() {
				l.Lock()
				got[i] = fmt.Sprintf("%c%d", kind, time.Since(began)/time.Second)
				time.Sleep(time.Second)
				l.Unlock()
			})
			synctest.Wait() // it queues
			if kind == 'W' || i == 0 || script[i-1] == 'W' {
				at++
			}
			want = append(want, fmt.Sprintf("%c%d", kind, at-1))
		}
		all[0].Unlock()
		wg.Wait()
		assert.Exactly(t, "grants in seconds", strings.Join(got, " "), strings.Join(want, " "))
		free(t, s)
	})
}

// TestRWOrder: first come, first served, over goroutines of one handle and of
// several processes.
func TestRWOrder(t *testing.T) {
	for _, script := range []string{"R", "W", "RRRR", "WWWW", "RWR", "WRW", "RRWRRRWWRWRR", strings.Repeat("RW", 10)} {
		for _, clients := range []int{1, 3} {
			t.Run(fmt.Sprint(script, clients), func(t *testing.T) { expectOrder(t, script, clients) })
		}
	}
	for range 20 {
		var script strings.Builder
		for range 20 {
			script.WriteByte("RW"[rand.IntN(2)])
		}
		t.Run(script.String(), func(t *testing.T) { expectOrder(t, script.String(), 3) })
	}
}

// TestRWOrderAfterAWaitEnds: readers behind a writer who gave up join those who
// read.
func TestRWOrderAfterAWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		all := rws(t, s, 2)
		all[0].RLock()
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() { gone <- all[1].LockContext(ctx) }()
		synctest.Wait()
		read := make(chan struct{})
		go func() {
			all[0].RLock()
			close(read)
		}()
		synctest.Wait()
		select {
		case <-read:
			t.Error("a reader overtook a writer")
		default:
		}
		cancel()
		assert.Matches(t, <-gone, context.Canceled)
		<-read
		all[0].RUnlock()
		all[0].RUnlock()
		free(t, s)
	})
}

// TestRWStarvesNobody: readers who are always there, on the same handle and on
// others, do not keep a writer out for longer than one of them reads; nor
// writers a reader.
func TestRWStarvesNobody(t *testing.T) {
	for name, reading := range map[string]bool{"writer": true, "reader": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := memory.NewServer()
				all := rws(t, s, 3)
				side := func(mu *mutex.RW, reading bool) sync.Locker {
					if reading {
						return mu.RLocker()
					}
					return mu
				}
				stop := make(chan struct{})
				var wg sync.WaitGroup
				for i := range 9 {
					l := side(all[i%3], reading)
					wg.Go(func() {
						time.Sleep(time.Duration(i) * time.Second / 9) // their holds overlap
						for {
							select {
							case <-stop:
								return
							default:
							}
							l.Lock()
							time.Sleep(time.Second)
							l.Unlock()
						}
					})
				}
				longest := time.Second // readers who came together
				if !reading {
					longest = 9 * time.Second // writers who came before
				}
				time.Sleep(20 * time.Second)
				for _, mu := range all {
					l := side(mu, !reading)
					began := time.Now()
					l.Lock()
					if took := time.Since(began); took > longest {
						t.Errorf("waited for %v", took)
					}
					l.Unlock()
				}
				close(stop)
				wg.Wait()
				free(t, s)
			})
		})
	}
}
