package once_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/memory"
	"github.com/distributed-go/distributed/once"
)

// The benchmarks run on the memory backend, so they measure what this package
// costs without a network.

func benchClient(b *testing.B) *locker.Client {
	c := locker.New(memory.New())
	b.Cleanup(func() { c.Close() })
	return c
}

// BenchmarkDoneAgain is Do of what this handle has seen done; "sync" is sync.Once.
func BenchmarkDoneAgain(b *testing.B) {
	b.Run("once", func(b *testing.B) {
		o := once.New(benchClient(b), "k", once.WithVolatile())
		b.ReportAllocs()
		for b.Loop() {
			if err := o.Do(b.Context(), succeed); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("sync", func(b *testing.B) {
		var o sync.Once
		b.ReportAllocs()
		for b.Loop() {
			o.Do(func() {})
		}
	})
}

// BenchmarkDoneElsewhere is the first Do of a handle, of what is done.
func BenchmarkDoneElsewhere(b *testing.B) {
	c := benchClient(b)
	if err := once.New(c, "k", once.WithVolatile()).Do(b.Context(), succeed); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := once.New(c, "k").Do(b.Context(), succeed); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkGroup is a call of each of 1 and of 100 goroutines at the same time, of
// a function that takes a millisecond; "sync" is x/sync's singleflight.
func BenchmarkGroup(b *testing.B) {
	for _, n := range []struct {
		name       string
		goroutines int
	}{{"1", 1}, {"100", 100}} {
		g := once.NewGroup[int](benchClient(b), "g")
		var sf singleflight.Group
		for name, do := range map[string]func() error{
			"group": func() error {
				_, _, err := g.Do(b.Context(), "k", func(context.Context) (int, error) { time.Sleep(time.Millisecond); return 1, nil })
				return err
			},
			"sync": func() error {
				_, err, _ := sf.Do("k", func() (any, error) { time.Sleep(time.Millisecond); return 1, nil })
				return err
			},
		} {
			b.Run(name+"/"+n.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					var wg sync.WaitGroup
					for range n.goroutines {
						wg.Go(func() {
							if err := do(); err != nil {
								b.Error(err)
							}
						})
					}
					wg.Wait()
				}
			})
		}
	}
}
