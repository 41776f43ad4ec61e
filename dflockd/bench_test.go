package dflockd

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/distributed-go/distributed/locker"
	lockserver "github.com/distributed-go/distributed/server"
)

// BenchmarkEchoPair is the measure of the others: two bare round trips of a
// line over loopback, with a parked reader, by one goroutine.
func BenchmarkEchoPair(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		buf := make([]byte, 4096)
		for {
			n, err := nc.Read(buf)
			if err != nil {
				return
			}
			nc.Write(buf[:n]) //nolint:errcheck // the next Read tells
		}
	}()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	answers := make(chan struct{}, 1)
	go func() {
		r := bufio.NewReader(nc)
		for {
			if _, err := r.ReadSlice('\n'); err != nil {
				return
			}
			answers <- struct{}{}
		}
	}()
	line := []byte("ok 0123456789abcdef0123456789abcdef 33\n")
	for b.Loop() {
		for range 2 {
			if _, err := nc.Write(line); err != nil {
				b.Fatal(err)
			}
			<-answers
		}
	}
}

// BenchmarkPair is lock and unlock, by goroutines with a key each.
func BenchmarkPair(b *testing.B) {
	addr := startServer(b, lockserver.Config{})
	for _, goroutines := range []int{1, 100} {
		b.Run(fmt.Sprint("goroutines=", goroutines), func(b *testing.B) {
			be := newBackend(b, []string{addr})
			defer be.Close()
			pairs(b, goroutines, func(i int) string { return fmt.Sprint("key", i) }, be)
		})
	}
}

// BenchmarkContended is the same on one key, by 16 goroutines that wait for
// each other.
func BenchmarkContended(b *testing.B) {
	addr := startServer(b, lockserver.Config{})
	be := newBackend(b, []string{addr})
	defer be.Close()
	pairs(b, 16, func(int) string { return "key" }, be)
}

func pairs(b *testing.B, goroutines int, key func(int) string, be *Backend) {
	b.ReportAllocs()
	left := make(chan struct{}, b.N)
	for range b.N {
		left <- struct{}{}
	}
	close(left)
	mustRelease(b, be, hold("warm", mustAcquire(b, be, lock("warm"))))
	b.ResetTimer()
	var wg sync.WaitGroup
	for i := range goroutines {
		wg.Go(func() {
			key := key(i)
			for range left {
				mustRelease(b, be, hold(key, mustAcquire(b, be, lock(key))))
			}
		})
	}
	wg.Wait()
}

// BenchmarkRenew renews a thousand holds in one call.
func BenchmarkRenew(b *testing.B) {
	addr := startServer(b, lockserver.Config{})
	be := newBackend(b, []string{addr})
	defer be.Close()
	renewals := make([]locker.Renewal, 1000)
	for i := range renewals {
		key := fmt.Sprint("key", i)
		renewals[i] = locker.Renewal{Hold: hold(key, mustAcquire(b, be, lock(key))), TTL: 33e9, Attempt: 1}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		be.Renew(context.Background(), renewals)
	}
	for _, r := range renewals {
		if r.Err != nil {
			b.Fatal(r.Err)
		}
	}
}
