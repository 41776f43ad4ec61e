package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// patience is for what must come on a machine that does something else, and
// moment for what must not come.
const (
	patience = 10 * time.Second
	moment   = 20 * time.Millisecond
)

// A pair is both ends of a connection through a proxy.
type pair struct{ client, server *net.TCPConn }

// A rig is a proxy with a server behind it that the test plays.
type rig struct {
	*testing.T
	ln    net.Listener
	proxy *Proxy
}

func newRig(t *testing.T) *rig {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return &rig{T: t, ln: ln, proxy: Start(t, ln.Addr().String())}
}

func (r *rig) dial() *net.TCPConn {
	r.Helper()
	c, err := net.Dial("tcp", r.proxy.Addr())
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience)) //nolint:errcheck // it is new
	return c.(*net.TCPConn)
}

func (r *rig) connect() pair {
	r.Helper()
	client := r.dial()
	s, err := r.ln.Accept()
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { s.Close() })
	s.SetDeadline(time.Now().Add(patience)) //nolint:errcheck // it is new
	return pair{client, s.(*net.TCPConn)}
}

// ends returns the ends of a pair from which and to which bytes go.
func (p pair) ends(d Direction) (from, to *net.TCPConn) {
	if d == Up {
		return p.client, p.server
	}
	return p.server, p.client
}

// expectEnd reads to the end of a connection: what is there, and how it ends.
func (r *rig) expectEnd(c *net.TCPConn, what, want string, how How) {
	r.Helper()
	b, err := io.ReadAll(c)
	if string(b) != want {
		r.Errorf("%s: read %q, want %q", what, b, want)
	}
	if got := errors.Is(err, syscall.ECONNRESET); got != (how == RST) || !got && err != nil {
		r.Errorf("%s: ended with %v, want %v", what, err, how)
	}
}

// expectSilence sees that nothing comes and that the connection stays open.
func (r *rig) expectSilence(c *net.TCPConn, what string) {
	r.Helper()
	c.SetReadDeadline(time.Now().Add(moment)) //nolint:errcheck // a dead connection says so when it is read
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		r.Errorf("%s: read %d bytes, %v; want silence", what, n, err)
	}
}

// expectRefused connects and is reset, be it before or after it knows that it is
// connected.
func (r *rig) expectRefused() {
	r.Helper()
	c, err := net.Dial("tcp", r.proxy.Addr())
	if err == nil {
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience)) //nolint:errcheck // it is new
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		r.Errorf("a connection that is to be refused: %v", err)
	}
}

func (r *rig) say(c net.Conn, what string) {
	r.Helper()
	if _, err := c.Write([]byte(what)); err != nil {
		r.Error(err)
	}
}

func (r *rig) hear(c net.Conn, want string) {
	r.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		r.Errorf("read %q, %v; want %q", b, err, want)
	}
}

func TestForwards(t *testing.T) {
	r := newRig(t)
	p := r.connect()
	big := strings.Repeat("0123456789abcdef", 20_000)
	go p.client.Write([]byte(big)) //nolint:errcheck // what arrives is checked
	r.hear(p.server, big)
	r.say(p.server, "yes\n")
	r.hear(p.client, "yes\n")
	if got, want := r.proxy.Counts(), (Counts{Up: int64(len(big)), Down: 4, Connections: 1}); got != want {
		t.Errorf("counts %+v, want %+v", got, want)
	}
	p.client.CloseWrite()
	r.expectEnd(p.server, "the server, after the client's FIN", "", FIN)
	r.say(p.server, "late\n")
	p.server.Close()
	r.expectEnd(p.client, "the client", "late\n", FIN)
}

// TestCutsExactly cuts at every byte of what goes over, however it is written.
func TestCutsExactly(t *testing.T) {
	const text = "1 l\njobs\n- 10\n"
	r := newRig(t)
	for _, d := range []Direction{Up, Down} {
		for _, how := range []How{FIN, RST, OneSided} {
			for n := range len(text) + 1 {
				p := r.connect()
				from, to := p.ends(d)
				done := r.proxy.Arm(Cut{Direction: d, After: int64(n), How: how})
				r.say(from, text[:n/2])
				if n/2 > 0 {
					r.hear(to, text[:n/2])
				}
				_, _ = from.Write([]byte(text[n/2:] + "more\n"))
				<-done
				r.expectCut(p, d, how, text[n/2:n])
				r.expectHit(text[:n], how)
			}
		}
	}
}

// expectCut sees a connection end at both ends after what was forwarded last.
func (r *rig) expectCut(p pair, d Direction, how How, last string) {
	r.Helper()
	want := [2]string{}
	want[d] = last
	clientEnds, serverEnds := how, how
	if how == OneSided {
		clientEnds = RST
	}
	r.expectEnd(p.client, how.String()+", the client", want[Down], clientEnds)
	if how == OneSided {
		r.hear(p.server, want[Up])
		r.expectSilence(p.server, "the server's end of a one-sided cut")
		r.say(p.server, "to nobody\n")
	} else {
		r.expectEnd(p.server, how.String()+", the server", want[Up], serverEnds)
	}
	p.client.Close()
	p.server.Close()
}

func (r *rig) expectHit(forwarded string, how How) {
	r.Helper()
	hits := r.proxy.Disarm()
	line := forwarded[strings.LastIndexByte(forwarded, '\n')+1:]
	if len(hits) != 1 || string(hits[0].Line) != line || hits[0].How != how {
		r.Errorf("hits %+v, want one in the line %q", hits, line)
	}
}

func TestCutsInSequence(t *testing.T) {
	r := newRig(t)
	done := r.proxy.Arm(Cut{Direction: Up, After: 3, How: RST}, Cut{Direction: Down, After: 2, How: FIN})
	first := r.connect()
	r.say(first.server, "not counted, for the first cut comes before")
	r.say(first.client, "abcdef")
	r.hear(first.server, "abc")
	r.expectEnd(first.server, "the first connection", "", RST)
	second := r.connect()
	r.say(second.client, "counts only upwards")
	r.hear(second.server, "counts only upwards")
	r.say(second.server, "xyz")
	r.expectEnd(second.client, "the second connection", "xy", FIN)
	<-done
	if hits := r.proxy.Disarm(); len(hits) != 2 || string(hits[0].Line) != "abc" || string(hits[1].Line) != "xy" {
		t.Errorf("hits %+v", hits)
	}
	third := r.connect()
	r.say(third.client, "whole")
	r.hear(third.server, "whole")
}

func TestDisarmKeepsWhatIsThere(t *testing.T) {
	r := newRig(t)
	p := r.connect()
	done := r.proxy.Arm(Cut{Direction: Up, After: 3})
	r.say(p.client, "ab")
	r.hear(p.server, "ab")
	if hits := r.proxy.Disarm(); len(hits) != 0 {
		t.Errorf("hits %+v, want none", hits)
	}
	r.say(p.client, "cdef")
	r.hear(p.server, "cdef")
	select {
	case <-done:
		t.Error("a plan that was disarmed is done")
	default:
	}
}

func TestRefuses(t *testing.T) {
	r := newRig(t)
	p := r.connect()
	done := r.proxy.Arm(Cut{Direction: Up, How: RST, Refuse: time.Hour})
	r.say(p.client, "x")
	<-done
	r.expectEnd(p.client, "the client", "", RST)
	r.expectRefused()
	if c := r.proxy.Counts(); c.Refused != 1 || c.Connections != 1 {
		t.Errorf("counts %+v, want 1 refused and 1 carried", c)
	}
	r.proxy.Cut(RST, 0)
	again := r.connect()
	r.say(again.client, "x")
	r.hear(again.server, "x")
}

func TestRefusesWhenTheServerIsGone(t *testing.T) {
	r := newRig(t)
	r.ln.Close()
	r.expectRefused()
}

func TestCutNow(t *testing.T) {
	for _, how := range []How{FIN, RST} {
		r := newRig(t)
		a, b := r.connect(), r.connect()
		for _, p := range []pair{a, b} { // a link is there once it carried something
			r.say(p.client, "x")
			r.hear(p.server, "x")
		}
		r.proxy.Cut(how, 0)
		for _, p := range []pair{a, b} {
			r.expectEnd(p.client, "the client", "", how)
			r.expectEnd(p.server, "the server", "", how)
		}
	}
}

func TestDeafen(t *testing.T) {
	r := newRig(t)
	p := r.connect()
	r.say(p.client, "x")
	r.hear(p.server, "x")
	r.proxy.Deafen()
	r.say(p.client, "into the void")
	r.say(p.server, "as well")
	r.expectSilence(p.client, "the client")
	r.expectSilence(p.server, "the server")
	p.client.Close()
	r.expectSilence(p.server, "the server, whose client has closed")
	after := r.connect()
	r.say(after.client, "x")
	r.hear(after.server, "x")
}

func TestDelay(t *testing.T) {
	r := newRig(t)
	p := r.connect()
	r.proxy.SetDelay(2 * moment)
	began := time.Now()
	r.say(p.client, "slow")
	r.hear(p.server, "slow")
	if took := time.Since(began); took < 2*moment {
		t.Errorf("held up for %v, want at least %v", took, 2*moment)
	}
	r.proxy.SetDelay(time.Hour)
	r.say(p.client, "never")
	r.expectSilence(p.server, "the server")
	r.proxy.Close() // does not wait for the hour
}

func TestCloseIsIdempotent(t *testing.T) {
	r := newRig(t)
	p := r.connect()
	r.proxy.Close()
	r.proxy.Close()
	if _, err := p.client.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still there")
	}
	if c, err := net.Dial("tcp", r.proxy.Addr()); err == nil {
		c.Close()
		t.Error("the proxy still listens")
	}
}

func TestFollow(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	for _, c := range []struct{ before, b, want string }{
		{"", "", ""},
		{"", "ab", "ab"},
		{"ab", "cd", "abcd"},
		{"ab", "c\n", ""},
		{"ab", "c\nde\nf", "f"},
		{"ab", long, long},
		{"a", "\n" + long + "y", long[1:] + "y"},
	} {
		if got := follow([]byte(c.before), []byte(c.b)); !bytes.Equal(got, []byte(c.want)) {
			t.Errorf("follow(%q, %q) = %q, want %q", c.before, c.b, got, c.want)
		}
	}
}
