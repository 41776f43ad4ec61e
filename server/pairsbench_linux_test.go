package server_test

import (
	"bytes"
	"fmt"
	"net"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-go/distributed/server"
)

// BenchmarkSessionPairs measures what the server does for one session that locks
// and releases so many keys at once, over and over: the client is as little as
// can be, on a thread of its own, so that the processor time of all others is
// the server's.
func BenchmarkSessionPairs(b *testing.B) {
	for _, keys := range []int{10, 25, 100} {
		b.Run(fmt.Sprint(keys), func(b *testing.B) {
			benchmarkSessionPairs(b, server.Config{}, keys)
		})
	}
}

// BenchmarkDurablePairs is the same with a data directory.
func BenchmarkDurablePairs(b *testing.B) {
	for _, keys := range []int{10, 25, 100} {
		b.Run(fmt.Sprint(keys), func(b *testing.B) {
			benchmarkSessionPairs(b, server.Config{DataDir: filepath.Join(b.TempDir(), "data")}, keys)
		})
	}
}

func benchmarkSessionPairs(b *testing.B, cfg server.Config, keys int) {
	_, connect := overTCP(b, cfg)
	p := connect()
	p.hello(b)
	runPairs(b, newPairs(p.nc, keys))
}

// BenchmarkEchoPairs is what is left of that without locks: as many bytes both
// ways, one write for each read.
func BenchmarkEchoPairs(b *testing.B) {
	for _, keys := range []int{10, 25, 100} {
		b.Run(fmt.Sprint(keys), func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			ended := make(chan error, 1)
			go func() { ended <- echo(l) }()
			c := newPairs(dial(b, l.Addr().String()), keys)
			runPairs(b, c)
			c.nc.Close()
			if err := <-ended; err != nil {
				b.Error(err)
			}
		})
	}
}

// echo answers each three lines with one, of the length of a grant after a lock
// and of "ok" after a release.
func echo(l net.Listener) error {
	nc, err := l.Accept()
	if err != nil {
		return err
	}
	defer nc.Close()
	in, lines := make([]byte, 16<<10), 0
	var out []byte
	for {
		n, err := nc.Read(in)
		if err != nil {
			return nil // the client hung up
		}
		out = out[:0]
		for rest := in[:n]; ; lines++ {
			i := bytes.IndexByte(rest, '\n')
			if i < 0 {
				break
			}
			switch {
			case lines%3 < 2:
			case i == 32:
				out = append(out, "1000000 ok\n"...)
			default:
				out = append(out, "1000000 ok 00000000000000000000000000000000 30000ms\n"...)
			}
			rest = rest[i+1:]
		}
		if _, err := nc.Write(out); err != nil {
			return nil
		}
	}
}

// TestSessionPairsAllocateNothing: a lease comes in the place of one that was
// released. A data directory adds nothing to it.
func TestSessionPairsAllocateNothing(t *testing.T) {
	pairsAllocateNothing(t, server.Config{})
	pairsAllocateNothing(t, server.Config{DataDir: filepath.Join(t.TempDir(), "data")})
}

func pairsAllocateNothing(t *testing.T, cfg server.Config) {
	_, connect := overTCP(t, cfg)
	p := connect()
	p.hello(t)
	const keys = 50
	c := newPairs(p.nc, keys)
	for range 100 {
		c.round(t) // the buffers grow
	}
	if n := testing.AllocsPerRun(100, func() { c.round(t) }) / keys; n > 0.1 {
		t.Errorf("a pair allocates %.2f times, want 0", n)
	}
}

// runPairs reports pairs per second and the processor time that others than the
// client took for each.
func runPairs(b *testing.B, c *pairs) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c.round(b) // the buffers grow
	b.ReportAllocs()
	all, own := cpu(b, syscall.RUSAGE_SELF), cpu(b, rusageThread)
	done := 0
	for b.ResetTimer(); done < b.N; done += c.keys {
		c.round(b)
	}
	all, own = cpu(b, syscall.RUSAGE_SELF)-all, cpu(b, rusageThread)-own
	b.ReportMetric(float64(done)/b.Elapsed().Seconds(), "pairs/s")
	b.ReportMetric(float64((all-own).Nanoseconds())/float64(done), "server-ns/pair")
}

const rusageThread = 1 // of Linux; package syscall does not have it

func cpu(b *testing.B, who int) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Pairs is a client that locks many keys with one write, and releases them with
// the next.
type pairs struct {
	nc      net.Conn
	keys    int
	id      uint64
	names   []string
	tokens  []byte
	out, in []byte
}

func newPairs(nc net.Conn, keys int) *pairs {
	c := &pairs{nc: nc, keys: keys, id: 1_000_000, tokens: make([]byte, 32*keys), in: make([]byte, 16<<10)}
	for i := range keys {
		c.names = append(c.names, fmt.Sprintf("orders/%027d", i))
	}
	return c
}

func (c *pairs) round(b testing.TB) {
	c.out = c.out[:0]
	for _, name := range c.names {
		c.request(" l\n", name, []byte("- 30"))
	}
	c.exchange(b, true)
	c.out = c.out[:0]
	for i, name := range c.names {
		c.request(" r\n", name, c.tokens[32*i:32*i+32])
	}
	c.exchange(b, false)
}

func (c *pairs) request(command, key string, argument []byte) {
	c.id++
	c.out = append(strconv.AppendUint(c.out, c.id, 10), command...)
	c.out = append(append(c.out, key...), '\n')
	c.out = append(append(c.out, argument...), '\n')
}

// exchange writes the requests and reads an answer to each.
func (c *pairs) exchange(b testing.TB, grants bool) {
	if _, err := c.nc.Write(c.out); err != nil {
		b.Fatal(err)
	}
	for have, answers := 0, 0; answers < c.keys; {
		n, err := c.nc.Read(c.in[have:])
		if err != nil {
			b.Fatal(err)
		}
		have += n
		rest := c.in[:have]
		for {
			i := bytes.IndexByte(rest, '\n')
			if i < 0 {
				break
			}
			c.answer(b, rest[:i], grants)
			rest = rest[i+1:]
			answers++
		}
		have = copy(c.in, rest)
	}
}

// answer keeps the token of a grant where its key is: answers come in any order,
// and with a data directory the first ones do not come in that of the requests.
func (c *pairs) answer(b testing.TB, line []byte, grant bool) {
	id, status, _ := bytes.Cut(line, []byte(" "))
	n, err := strconv.ParseUint(string(id), 10, 64)
	i := int(n) - int(c.id) + c.keys - 1 //nolint:gosec // which of the latest requests it was
	switch {
	case err != nil || i < 0 || i >= c.keys || !bytes.HasPrefix(status, []byte("ok")):
		b.Fatalf("answered %q", line)
	case grant:
		copy(c.tokens[32*i:32*i+32], status[len("ok "):])
	}
}
