package echo

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func serve(t testing.TB) (*Server, *Client) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(ln)
	t.Cleanup(s.Close)
	c, err := Dial(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return s, c
}

func TestRoundTrips(t *testing.T) {
	_, c := serve(t)
	for i := range 100 {
		if err := c.RoundTrip(); err != nil {
			t.Fatalf("round trip %d: %v", i, err)
		}
	}
	mustBeIdle(t, c)
}

func mustBeIdle(t *testing.T, c *Client) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n != 0 || len(c.out) != 0 || c.writing {
		t.Errorf("left: %d calls, %d bytes, writing %v", c.n, len(c.out), c.writing)
	}
}

// TestManyGoroutines also grows the ring of those who wait, several times.
func TestManyGoroutines(t *testing.T) {
	_, c := serve(t)
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			for range 20 {
				if err := c.RoundTrip(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	mustBeIdle(t, c)
}

func TestEndIsHeardByAllWhoWait(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := Dial(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	conn, err := ln.Accept() // and never answers
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error)
	for range 3 {
		go func() { errs <- c.RoundTrip() }()
	}
	if _, err := io.ReadFull(conn, make([]byte, 3*RequestSize)); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	for range 3 {
		select {
		case err := <-errs:
			if err == nil {
				t.Error("a round trip that was never answered succeeded")
			}
		case <-time.After(10 * time.Second):
			t.Fatal("a round trip on a closed connection hangs")
		}
	}
}

func TestUnaskedAnswerEndsTheConnection(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := Dial(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(make([]byte, AnswerSize)); err != nil {
		t.Fatal(err)
	}
	<-c.lost
	if err := c.RoundTrip(); !errors.Is(err, errUnasked) {
		t.Errorf("a round trip after it: %v", err)
	}
}

// pieces is a connection whose reads bring what they are told to.
type pieces struct {
	reads  []int
	writes []int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.reads) == 0 {
		return 0, io.EOF
	}
	n := copy(b, bytes.Repeat([]byte{'x'}, p.reads[0]))
	p.reads = p.reads[1:]
	return n, nil
}

func (p *pieces) Write(b []byte) (int, error) {
	p.writes = append(p.writes, len(b))
	return len(b), nil
}

func TestOneWriteForEachRead(t *testing.T) {
	p := &pieces{reads: []int{RequestSize, 3 * RequestSize, 10, 2*RequestSize - 10, RequestSize + 1, RequestSize - 1}}
	if err := echo(p); err != nil {
		t.Fatal(err)
	}
	var sum int
	for _, n := range p.writes {
		if n%AnswerSize != 0 {
			t.Errorf("a write of %d bytes is no whole answers", n)
		}
		sum += n
	}
	if want := 8 * AnswerSize; sum != want {
		t.Errorf("%d bytes of answers in %v, want %d", sum, p.writes, want)
	}
	if len(p.writes) > 6 {
		t.Errorf("%d writes for 6 reads", len(p.writes))
	}
}

func BenchmarkOne(b *testing.B) {
	_, c := serve(b)
	for b.Loop() {
		if err := c.RoundTrip(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHundred(b *testing.B) {
	_, c := serve(b)
	var wg sync.WaitGroup
	b.ResetTimer()
	for range 100 {
		wg.Go(func() {
			for range b.N / 100 {
				if err := c.RoundTrip(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
