package memory

import (
	"fmt"
	"sync"
	"testing"
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
