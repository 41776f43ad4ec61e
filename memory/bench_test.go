package memory

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/distributed-go/distributed/locker"
)

func BenchmarkAcquireRelease(b *testing.B) {
	c := New()
	defer c.Close()
	r := lock("k")
	b.ReportAllocs()
	for b.Loop() {
		g, err := c.Acquire(b.Context(), r)
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Release(b.Context(), hold(r, g)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkContended(b *testing.B) {
	for _, goroutines := range []int{2, 16} {
		b.Run(fmt.Sprint(goroutines), func(b *testing.B) {
			c := New()
			defer c.Close()
			var wg sync.WaitGroup
			for range goroutines {
				wg.Go(func() {
					r := lock("k")
					for range b.N / goroutines {
						g, err := c.Acquire(b.Context(), r)
						if err == nil {
							err = c.Release(b.Context(), hold(r, g))
						}
						if err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// BenchmarkHandOver passes a hold on within the process.
func BenchmarkHandOver(b *testing.B) {
	c := locker.New(New())
	defer c.Close()
	var l *locker.Lease
	a, err := c.Acquirer(locker.Request{Kind: locker.Exclusive, Key: "k", Limit: 1, Weight: 1, Fences: locker.MaxFences})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		next := l
		if l != nil {
			next, err = l.HandOver()
		}
		if l == nil || errors.Is(err, locker.ErrNoFence) {
			if l != nil {
				err = l.Release(b.Context())
			}
			next = a.MustAcquire()
		}
		if err != nil {
			b.Fatal(err)
		}
		l = next
	}
}

// BenchmarkMutex is the rival: what sync.Mutex does for goroutines.
func BenchmarkMutex(b *testing.B) {
	var mu sync.Mutex
	n := 0
	for b.Loop() {
		mu.Lock()
		n++
		mu.Unlock()
	}
}
