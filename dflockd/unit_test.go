package dflockd

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/locker"
)

func TestCallQueueIsFIFOThroughGrowthAndWrapping(t *testing.T) {
	var q callQueue
	next, want := 0, 0
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		if r.IntN(2) == 0 || next-want > 3000 {
			for range r.IntN(50) {
				if cl := q.pop(); cl == nil {
					if next != want {
						t.Fatalf("empty with %d inside", next-want)
					}
				} else if cl.size != want {
					t.Fatalf("popped %d, want %d", cl.size, want)
				} else {
					want++
				}
			}
		} else {
			for range r.IntN(60) {
				q.push(&call{size: next})
				next++
			}
		}
		if q.len() != next-want {
			t.Fatalf("length %d, want %d", q.len(), next-want)
		}
		if q.len() > 0 && q.at(q.len()-1).size != next-1 {
			t.Fatalf("last is %d, want %d", q.at(q.len()-1).size, next-1)
		}
	}
}

// Exactly one of the caller and the reader has the answer, whoever is first.
func TestACallHasExactlyOneOwner(t *testing.T) {
	b := newBackend(t, []string{where})
	c := &conn{srv: b.servers[0]}
	req := request{command: codec.Lock, key: "k"}
	const rounds = 20000
	callers, readers := 0, 0
	for range rounds {
		cl := c.newCall(&req, nil)
		ctx, cancel := context.WithCancel(context.Background())
		var settled bool
		var wg sync.WaitGroup
		wg.Go(func() { settled = cl.settle(&codec.Answer{Status: codec.OK, HasToken: true}, nil) })
		wg.Go(cancel)
		a, err := cl.wait(ctx)
		wg.Wait()
		if settled != (err == nil) || a.HasToken != settled {
			t.Fatalf("reader settled %v, caller got %v, %v", settled, a, err)
		}
		if settled {
			callers++
		} else {
			readers++
		}
	}
	if n := c.deserted.Load(); n != 0 {
		t.Errorf("%d calls are still counted as deserted", n)
	}
	if callers == 0 || readers == 0 {
		t.Errorf("%d to callers, %d to readers: the race was not run", callers, readers)
	}
}

func TestNeeds(t *testing.T) {
	cfg, err := configure(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	const long = 24 * time.Hour
	for name, c := range map[string]struct {
		condition
		want need
	}{
		"fresh":                             {condition{}, needNothing},
		"idle, not for long":                {condition{silent: 14 * time.Second}, needNothing},
		"idle":                              {condition{silent: 16 * time.Second}, needEnd},
		"idle, but used":                    {condition{silent: 16 * time.Second, busy: true}, needPing},
		"holds":                             {condition{silent: 6 * time.Second, holds: true}, needNothing},
		"holds, silent":                     {condition{silent: 6500 * time.Millisecond, holds: true}, needPing},
		"holds, pinged":                     {condition{silent: long, holds: true, pinged: true, pending: true}, needNothing},
		"holds, requests unanswered":        {condition{silent: long, holds: true, pending: true}, needPing},
		"holds, requests overdue":           {condition{silent: long, holds: true, pending: true, overdue: true, pinged: true}, needNothing},
		"a place":                           {condition{silent: 7 * time.Second, busy: true}, needPing},
		"waits":                             {condition{silent: long, busy: true, pending: true, waits: true}, needNothing},
		"waits and overdue":                 {condition{silent: long, busy: true, pending: true, waits: true, overdue: true}, needNothing},
		"lingers":                           {condition{silent: long, lingering: true, pending: true, overdue: true}, needNothing},
		"requests unanswered, none overdue": {condition{silent: long, pending: true}, needNothing},
		"requests overdue":                  {condition{pending: true, overdue: true}, needEnd},
	} {
		if got := c.need(&cfg); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestFits(t *testing.T) {
	tok := codec.Token{1}
	bare := codec.Answer{Status: codec.OK}
	grant := codec.Answer{Status: codec.OK, HasToken: true, Token: tok, HasTTL: true, TTL: time.Second}
	acquired := grant
	acquired.Status = codec.Acquired
	dead := grant
	dead.TTL = 0
	rest := codec.Answer{Status: codec.OK, HasTTL: true}
	report := codec.Answer{Status: codec.OK, JSON: []byte("{}")}
	for name, c := range map[string]struct {
		answer codec.Answer
		to     []codec.Command
	}{
		"ok":       {bare, []codec.Command{codec.Release, codec.Auth, codec.Ping}},
		"grant":    {grant, []codec.Command{codec.Lock, codec.Wait}},
		"dead":     {dead, nil},
		"rest":     {rest, []codec.Command{codec.Renew}},
		"report":   {report, []codec.Command{codec.Stats}},
		"acquired": {acquired, []codec.Command{codec.Enqueue}},
		"queued":   {codec.Answer{Status: codec.Queued}, []codec.Command{codec.Enqueue}},
		"timeout":  {codec.Answer{Status: codec.Timeout}, []codec.Command{codec.Lock, codec.Wait}},
	} {
		for command := codec.Lock; command <= codec.Stats; command++ {
			want := false
			for _, to := range c.to {
				want = want || to == command
			}
			if got := fits(command, &c.answer); got != want {
				t.Errorf("%s fits %v: %v, want %v", name, command, got, want)
			}
		}
	}
	for command := codec.Lock; command <= codec.Stats; command++ {
		for status := codec.Failed; status <= codec.Draining; status++ {
			if !fits(command, &codec.Answer{Status: status}) {
				t.Errorf("%v does not fit %v", status, command)
			}
		}
	}
}

func TestSecondsRoundUp(t *testing.T) {
	for d, want := range map[time.Duration]time.Duration{
		0: 0, 1: time.Second, time.Second: time.Second, 1500 * time.Millisecond: 2 * time.Second,
		math.MaxInt64: math.MaxInt64,
	} {
		if got := seconds(d); got != want {
			t.Errorf("%v becomes %v, want %v", d, got, want)
		}
	}
}

func TestGate(t *testing.T) {
	var g gate
	now := time.Now()
	if err := g.check(now); err != nil {
		t.Fatalf("the zero gate is shut: %v", err)
	}
	down := errors.New("down")
	longest := time.Duration(0)
	for range 20 {
		g.note(now, down)
		if err := g.check(now); !errors.Is(err, down) {
			t.Fatalf("shut with %v", err)
		}
		wait := g.until.Sub(now)
		if wait < 10*time.Millisecond || wait > 1500*time.Millisecond {
			t.Errorf("shut for %v", wait)
		}
		longest = max(longest, wait)
		now = g.until
		if err := g.check(now); err != nil {
			t.Errorf("still shut: %v", err)
		}
	}
	if longest < 500*time.Millisecond {
		t.Errorf("never shut for longer than %v", longest)
	}
	g.note(now, down)
	g.note(now, nil)
	if err := g.check(now); err != nil {
		t.Errorf("shut after a success: %v", err)
	}
}

func TestErrorsOfConnections(t *testing.T) {
	closed := &endedError{addr: where, cause: locker.ErrClosed}
	wantErr(t, closed, locker.ErrClosed)
	if errors.Is(closed, locker.ErrUnavailable) {
		t.Error("closing a backend looks like an outage, which is tried again")
	}
	timeout := &endedError{addr: where, cause: context.DeadlineExceeded}
	wantErr(t, timeout, locker.ErrUnavailable)
	if errors.Is(timeout, context.DeadlineExceeded) {
		t.Error("a timeout of ours looks like the caller's")
	}
	if errors.Is(ErrRefused, locker.ErrUnavailable) {
		t.Error("a refusal looks like an outage, which is tried again")
	}
}

func TestFromSeconds(t *testing.T) {
	for s, want := range map[float64]time.Duration{
		0: 0, -1: 0, 1.5: 1500 * time.Millisecond, math.Inf(-1): 0,
		math.Inf(1): math.MaxInt64 / 2, 1e300: math.MaxInt64 / 2,
	} {
		if got := fromSeconds(s); got < want-1024 || got > want+1024 {
			t.Errorf("%v s is %v, want %v", s, got, want)
		}
	}
	if fromSeconds(math.NaN()) != 0 {
		t.Error("NaN")
	}
}

// A late is a context whose deadline has passed and whose timer is late.
type late struct{ context.Context }

func (late) Deadline() (time.Time, bool) { return time.Now().Add(-time.Second), true }

func TestAWaitNeverBecomesATry(t *testing.T) {
	if got := waitOf(late{context.Background()}); got < time.Second {
		t.Errorf("waits %v", got)
	}
	if got := waitOf(context.Background()); got != longestWait {
		t.Errorf("waits %v", got)
	}
}
