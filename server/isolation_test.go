package server_test

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-go/distributed/server"
)

// A tightListener gives each connection a small send buffer, so that a client
// that does not read is felt at once.
type tightListener struct {
	net.Listener
	accepted atomic.Int32
}

func (l *tightListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err == nil {
		nc.(*net.TCPConn).SetWriteBuffer(4 << 10)
		l.accepted.Add(1)
	}
	return nc, err
}

// TestClientsThatDoNotReadHarmNobody has some send requests for large answers
// and read nothing, others read a byte now and then, all of them holding and
// waiting for locks, while one that behaves must be served as if alone.
func TestClientsThatDoNotReadHarmNobody(t *testing.T) {
	const stuck, trickling = 40, 10
	const writeTimeout = time.Second
	s := start(t, server.Config{WriteTimeout: writeTimeout})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	tight := &tightListener{Listener: l}
	go s.Serve(tight)
	defer s.Close()

	good := newPeer(dial(t, addr))
	defer good.nc.Close()
	shared := good.grant(t, "l|shared|0")
	for i := range 500 {
		good.grant(t, fmt.Sprintf("sl|%0100d|0 1", i)) // makes a report of 70 KB
	}
	alone := latencies(t, good, 200)

	requests := strings.Repeat(wire("stats|_|_"), 20)
	for i := range stuck + trickling {
		nc := dial(t, addr)
		defer nc.Close()
		nc.(*net.TCPConn).SetReadBuffer(4 << 10)
		go io.WriteString(nc, wire(fmt.Sprintf("l|own%d|0", i))+requests+wire("l|shared|100"))
		if i >= stuck {
			go trickle(nc)
		}
	}
	eventually(t, "all are accepted", func() bool { return tight.accepted.Load() == 1+stuck+trickling })
	began := time.Now()
	crowded := latencies(t, good, 500)
	eventually(t, "the others are closed", func() bool { return s.Stats().Connections == 1 })
	took := time.Since(began)
	good.expect(t, "r|shared|"+shared, "ok")
	if held := s.Stats().Locks; len(held) != 0 {
		t.Errorf("those who were closed hold %v", held)
	}
	t.Logf("p50 and p99 of the good client: alone %v %v, in bad company %v %v; the others were closed after %v",
		at(alone, 50), at(alone, 99), at(crowded, 50), at(crowded, 99), took)
	// Generous: this is about blocking, which would take the write timeout. How
	// exactly that is kept is tested in virtual time; here the clients also
	// wait for each other's reports.
	if p99 := at(crowded, 99); p99 > writeTimeout/2 {
		t.Errorf("the good client's p99 was %v", p99)
	}
}

func trickle(nc net.Conn) {
	for b := make([]byte, 1); ; {
		if _, err := nc.Read(b); err != nil {
			return
		}
		time.Sleep(20 * time.Millisecond) // the point of this client
	}
}

// latencies returns how long pairs of lock and unlock took, sorted.
func latencies(t *testing.T, p *peer, n int) []time.Duration {
	t.Helper()
	var took []time.Duration
	for range n {
		began := time.Now()
		p.expect(t, "r|good|"+p.grant(t, "l|good|0"), "ok")
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took
}

func at(sorted []time.Duration, percent int) time.Duration { return sorted[len(sorted)*percent/100] }

// TestEndsAtEveryByte cuts connections after each byte of a script, in every
// way that TCP has.
func TestEndsAtEveryByte(t *testing.T) {
	s, connect := overTCP(t, server.Config{})
	holder := connect()
	holder.grant(t, "l|busy|0")
	script := wire("l|a|0 5", "se|b|2 5", "e|busy|", "zz|k|", "w|busy|60", "r|a|"+strings.Repeat("0", 32))
	for name, end := range map[string]func(nc *net.TCPConn){
		"reset":      func(nc *net.TCPConn) { nc.SetLinger(0); nc.Close() },
		"close":      func(nc *net.TCPConn) { nc.Close() },
		"half-close": func(nc *net.TCPConn) { nc.CloseWrite(); io.Copy(io.Discard, nc); nc.Close() },
	} {
		for cut := range len(script) + 1 {
			p := connect()
			if err := p.send(script[:cut]); err != nil {
				t.Fatal(err)
			}
			end(p.nc.(*net.TCPConn))
		}
		eventually(t, "nothing is left after "+name, func() bool {
			r := s.Stats()
			return r.Connections == 1 && len(r.Locks) == 1 && r.Locks[0].Waiters == 0 && len(r.Semaphores) == 0
		})
	}
	holder.expect(t, "ping|_|_", "ok")
}
