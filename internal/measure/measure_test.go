//go:build unix

package measure

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func nothing(context.Context) error { return nil }

func TestOne(t *testing.T) {
	n := 0
	b, err := One(t.Context(), 7, func(context.Context) error { n++; return nil })
	if err != nil || n != 7 || b.Pairs != 7 || len(b.Each) != 7 || b.Took <= 0 || b.Rate() <= 0 {
		t.Errorf("%d calls, %+v, %v", n, b, err)
	}
	failed := errors.New("failed")
	if _, err := One(t.Context(), 7, func(context.Context) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("of a pair that fails: %v", err)
	}
}

func TestMany(t *testing.T) {
	b, err := Many(t.Context(), time.Millisecond, []Pair{nothing, nothing})
	if err != nil || b.Pairs == 0 || b.Took < time.Millisecond || b.Stuck != 0 {
		t.Errorf("%+v, %v", b, err)
	}
	slow := func(context.Context) error { time.Sleep(20 * time.Millisecond); return nil } // real time: longer than the block
	if b, err := Many(t.Context(), time.Millisecond, []Pair{slow}); err != nil || b.Pairs != 1 || b.Took < 20*time.Millisecond {
		t.Errorf("of a pair that takes longer than the block: %+v, %v", b, err)
	}
	failed := errors.New("failed")
	began := time.Now()
	if _, err := Many(t.Context(), time.Hour, []Pair{nothing, func(context.Context) error { return failed }}); !errors.Is(err, failed) {
		t.Errorf("of a pair that fails: %v", err)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("a pair failed, and the block went on for %v", took)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(failed)
	if _, err := Many(ctx, time.Hour, []Pair{nothing}); !errors.Is(err, failed) {
		t.Errorf("in a context that has ended: %v", err)
	}
}

// local is a Lock in this process.
type local struct{ *sync.Mutex }

func (l local) Lock(context.Context) error   { l.Mutex.Lock(); return nil }
func (l local) Unlock(context.Context) error { l.Mutex.Unlock(); return nil }

func TestFight(t *testing.T) {
	var mu sync.Mutex
	f := Fight{Locks: []Lock{local{&mu}, local{&mu}, local{&mu}}}
	b, err := f.Run(t.Context(), 20*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	// Those inside when it was over count as shares and not as pairs.
	if over := int(b.Shares.Sum()) - b.Pairs; over < 0 || over > 3 || b.Changes < 1 || len(b.Handovers) != b.Changes-1 {
		t.Errorf("%d pairs, shares %v, %d changes, %d hand-overs", b.Pairs, b.Shares, b.Changes, len(b.Handovers))
	}
}

func TestFightSeesTwoInside(t *testing.T) {
	var one, other sync.Mutex
	f := Fight{Locks: []Lock{local{&one}, local{&other}, local{&one}, local{&other}}}
	if b, err := f.Run(t.Context(), 10*time.Second); err == nil {
		t.Errorf("two locks excluded each other for 10 s: %d pairs", b.Pairs)
	}
}

func TestInTurns(t *testing.T) {
	var turns int
	cs := []*Contestant{{Name: "a"}, {Name: "b"}}
	for _, c := range cs {
		c.Turn = func(ctx context.Context) (Block, error) {
			turns++
			return One(ctx, turns, nothing)
		}
	}
	done := 0
	if err := InTurns(t.Context(), 5, cs, func() { done++ }); err != nil {
		t.Fatal(err)
	}
	if turns != 12 || done != 12 || len(cs[0].Blocks) != 5 || len(cs[1].Blocks) != 5 {
		t.Errorf("%d turns, %d and %d blocks, want 12 and 5 of each", turns, len(cs[0].Blocks), len(cs[1].Blocks))
	}
	// The two of the round that does not count made one pair and two.
	if got, want := cs[0].Pairs()+cs[1].Pairs(), 12*13/2-3; got != want {
		t.Errorf("%d pairs count, want %d", got, want)
	}
	failed := errors.New("failed")
	cs[1].Turn = func(context.Context) (Block, error) { return Block{}, failed }
	if err := InTurns(t.Context(), 5, cs, nil); !errors.Is(err, failed) {
		t.Errorf("with a turn that fails: %v", err)
	}
}

func TestFairness(t *testing.T) {
	c := &Contestant{Blocks: []Block{{Shares: []float64{1, 5}}, {Shares: []float64{3, 3}}}}
	if got := c.Fairness(); got != 2 {
		t.Errorf("fairness of 4 and 8 is %v, want 2", got)
	}
}
