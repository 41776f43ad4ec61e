//go:build unix

package once

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/distributed-go/distributed/internal/proc"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/once"
)

const groupName = "results"

type groupArgs struct {
	Name  string
	Addr  string
	Arena string
}

// A grouper is a process whose goroutines call a Group.
type grouper struct {
	groupArgs
	arena   *arena
	backend *backend
	client  *locker.Client
	group   *once.Group[result]

	mu       sync.Mutex
	calls    []call        // guarded by mu, as all below
	returned map[run]int64 // when functions of this process had returned, at the latest
	landed   map[run]int64 // when their puts were answered
	lost     int
	other    []string
}

// A result says of which run it is.
type result struct {
	run
	End int64 // when the function was about to return
}

// A resultError is a result, too. Its text goes to other processes.
type resultError struct{ result }

const errorText = "no luck, %d %d %d"

func (e *resultError) Error() string { return fmt.Sprintf(errorText, e.Key, e.Fence, e.End) }

func groupRole(c *proc.Child) error {
	g := &grouper{returned: make(map[run]int64), landed: make(map[run]int64)}
	if err := c.Args(&g.groupArgs); err != nil {
		return err
	}
	var (
		err   error
		unmap func() error
	)
	if g.arena, unmap, err = openArena(g.Arena); err != nil {
		return err
	}
	if g.backend, err = newBackend(g.Addr, true, func(string, string) {}); err != nil {
		return err
	}
	g.backend.put = g.put
	g.client = locker.New(g.backend, locker.WithLogger(slog.New(slog.DiscardHandler)))
	g.group = once.NewGroup[result](g.client, groupName, once.WithEncoding(stamping{g}))
	c.Handle("rounds", proc.Handle(func(n int) (struct{}, error) {
		go g.rounds(n)
		return struct{}{}, nil
	}))
	c.Handle("storm", proc.Handle(func(s storm) (struct{}, error) { g.storm(s); return struct{}{}, nil }))
	c.Handle("report", proc.Handle(func(struct{}) (groupReport, error) { return g.report(), nil }))
	if err := c.Serve(nil); err != nil {
		return err
	}
	return errors.Join(g.client.Close(), unmap())
}

// stamping is JSON that notes when it is asked to encode what a function has
// returned: which is after that, and before others are told.
type stamping struct{ *grouper }

func (s stamping) Marshal(v any) ([]byte, error) {
	r := v.(result)
	s.mu.Lock()
	s.returned[r.run] = monotonic()
	s.mu.Unlock()
	return json.Marshal(v)
}

func (stamping) Unmarshal(b []byte, v any) error { return json.Unmarshal(b, v) }

// put notes when a put was answered.
func (g *grouper) put(key string, fence uint64, err error) {
	i, parseErr := strconv.Atoi(key[len(once.GroupPrefix+groupName+"/"):])
	if err != nil || parseErr != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.landed[run{i, fence}] = monotonic()
}

// call calls the group, and writes down what it got. The function takes as long as
// work does.
func (g *grouper) call(key int, work func() (failed bool)) {
	name := strconv.Itoa(key)
	c := call{key: key, from: monotonic()}
	v, _, err := g.group.Do(context.Background(), name, func(context.Context) (result, error) {
		r := result{run: run{key, g.backend.fence(once.GroupPrefix + groupName + "/" + name)}}
		g.arena.runs[key].Add(1)
		failed := work()
		r.End = monotonic()
		if failed {
			return result{}, &resultError{r}
		}
		return r, nil
	})
	c.to = monotonic()
	var (
		own    *resultError
		remote *once.RemoteError
	)
	switch {
	case errors.As(err, &own):
		v, err = own.result, nil
	case errors.As(err, &remote):
		_, err = fmt.Sscanf(remote.Message, errorText, &v.Key, &v.Fence, &v.End)
	}
	c.fence, c.end = v.Fence, v.End
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case errors.Is(err, locker.ErrLost):
		g.lost++
	case err != nil:
		g.other = append(g.other, err.Error())
	case v.Key != key:
		g.other = append(g.other, fmt.Sprintf("key %d: the result of key %d", key, v.Key))
	default:
		g.calls = append(g.calls, c)
	}
}

// rounds calls all keys together with the other processes, in each round that the
// arena says.
func (g *grouper) rounds(n int) {
	for round := range int64(n) {
		awaitAtLeast(&g.arena.round, round+1)
		var all sync.WaitGroup
		for i := range goroutines {
			all.Go(func() {
				key := i % groupKeys
				g.arena.came[key].Add(1)
				g.call(key, func() bool {
					awaitAtLeast(&g.arena.released[key], round+1)
					return false
				})
			})
		}
		all.Wait()
		g.arena.done.Add(1)
	}
}

// A storm is calls at random instants.
type storm struct {
	Calls int // of each goroutine
	Pause time.Duration
	Work  time.Duration
	Fails float64 // how many of the functions
	Seed  uint64
}

func (g *grouper) storm(s storm) {
	var all sync.WaitGroup
	for i := range goroutines {
		random := rand.New(rand.NewPCG(s.Seed, uint64(i)))
		all.Go(func() {
			for range s.Calls {
				time.Sleep(time.Duration(random.Int64N(int64(s.Pause) + 1))) // real time: of other processes
				work, failed := time.Duration(random.Int64N(int64(s.Work)+1)), random.Float64() < s.Fails
				g.call(random.IntN(groupKeys), func() bool {
					time.Sleep(work)
					return failed
				})
			}
		})
	}
	all.Wait()
}

// A groupReport is what a process says in the end.
type groupReport struct {
	Calls   int
	Strict  int           // that began when the function of their result was about to return, or later
	Longest time.Duration // of these, the greatest time between
	Lost    int
	Found   []string // violations: kind, text, and so on
	Spans   []spanOf
	Landed  []stamp
}

// A stamp is an instant of a run.
type stamp struct {
	run
	At int64
}

// A spanOf is a span with its run.
type spanOf struct {
	run
	span
}

func stamps(m map[run]int64) []stamp {
	list := make([]stamp, 0, len(m))
	for r, at := range m {
		list = append(list, stamp{r, at})
	}
	return list
}

func (g *grouper) report() groupReport {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := groupReport{Calls: len(g.calls), Lost: g.lost, Landed: stamps(g.landed)}
	spans := make(map[run]span)
	for _, c := range g.calls {
		at := run{c.key, c.fence}
		s, ok := spans[at]
		if !ok {
			s.First = c.from
		}
		spans[at] = span{min(s.First, c.from), max(s.Last, c.from)}
		if late := c.from - c.end; late > 0 {
			r.Strict++
			r.Longest = max(r.Longest, time.Duration(late))
		}
	}
	for at, s := range spans {
		r.Spans = append(r.Spans, spanOf{at, s})
	}
	for _, v := range judgeCalls(g.calls, g.returned) {
		r.Found = append(r.Found, v.Kind, v.Detail)
	}
	for _, text := range g.other {
		r.Found = append(r.Found, "failure", text)
	}
	g.calls, g.lost, g.other = nil, 0, nil
	clear(g.returned)
	clear(g.landed)
	return r
}
