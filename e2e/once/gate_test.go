//go:build unix

package once

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/distributed-go/distributed/internal/assert"
)

// A gate stands between one process and the server. It reads what goes over it, as
// frames: it counts them, and stops at one that a rule names. It is safe for
// concurrent use.
type gate struct {
	target   string
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex
	rule   *rule          // guarded by mu, as all below; nil for none
	counts map[string]int // of requests by command, and of answers by command and status, as in "join value"
	marks  []mark
	links  map[*link]bool
	closed bool
}

// A mark is a value that the server said that it has: to who put it, or to who asks.
type mark struct {
	key string
	run string // of the record; a put that is repeated after a restart has the same
}

// A rule says where to stop. It is used once, by the first link of all gates that
// comes to it; but if it releases what it stops, others stop there too until then:
// a client whose connection goes silent tries another.
type rule struct {
	what    string // of a request its command, of an answer the command and the status: "put", "put ok"
	key     string // of the backend; empty for any
	forward amount
	act     func(*gate)     // called once, when that much has been forwarded
	release <-chan struct{} // nothing goes on before it is closed; nil ends the link

	mu    sync.Mutex
	taken bool // guarded by mu
}

// An amount is how much of a frame goes on before the link stops.
type amount uint8

const (
	none amount = iota
	half
	whole
)

// take says whether who has come to the rule is the first.
func (r *rule) take() (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first = !r.taken
	r.taken = true
	return first
}

// stop is what one link does about a rule.
type stop struct {
	*rule
	first bool
}

// startGate starts a gate before the server at an address. It is closed when the
// test ends.
func startGate(t *testing.T, target string) *gate {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	assert.Sure(t, err)
	g := &gate{target: target, listener: ln, counts: make(map[string]int), links: make(map[*link]bool)}
	g.running.Go(g.accept)
	t.Cleanup(g.close)
	return g
}

func (g *gate) addr() string { return g.listener.Addr().String() }

func (g *gate) close() {
	g.listener.Close()
	g.mu.Lock()
	g.closed = true
	for l := range g.links {
		l.close()
	}
	g.mu.Unlock()
	g.running.Wait()
}

// arm sets the rule, or none.
func (g *gate) arm(r *rule) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rule = r
}

// taken returns what was counted, and the marks that were seen, and begins anew.
func (g *gate) taken() (counts map[string]int, marks []mark) {
	g.mu.Lock()
	defer g.mu.Unlock()
	counts, marks = g.counts, g.marks
	g.counts, g.marks = make(map[string]int), nil
	return counts, marks
}

func (g *gate) accept() {
	for {
		conn, err := g.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			g.running.Go(func() { g.carry(conn) })
		}
	}
}

func (g *gate) carry(client net.Conn) {
	server, err := net.Dial("tcp", g.target)
	if err != nil {
		client.Close()
		return
	}
	l := &link{gate: g, client: client, server: server, over: make(chan struct{}), asked: make(map[uint64]request)}
	g.mu.Lock()
	if g.closed {
		l.close()
	}
	g.links[l] = true
	g.mu.Unlock()
	var pipes sync.WaitGroup
	pipes.Go(l.up)
	pipes.Go(l.down)
	pipes.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.links, l)
}

// see counts a frame, and returns whether it stops here: nil if not.
func (g *gate) see(what, key string, m mark) *stop {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.counts[what]++
	if m.run != "" {
		g.marks = append(g.marks, m)
	}
	r := g.rule
	if r == nil || r.what != what || r.key != key && r.key != "" {
		return nil
	}
	if s := (stop{r, r.take()}); s.first || r.release != nil {
		return &s
	}
	return nil
}

// A request is what the answer is to.
type request struct {
	command, key string
	run          string // of the record that is put
}

// A link is one connection through a gate.
type link struct {
	gate           *gate
	client, server net.Conn
	end            sync.Once
	over           chan struct{} // closed by close

	mu    sync.Mutex
	asked map[uint64]request // without an answer; guarded by mu
}

func (l *link) close() {
	l.end.Do(func() {
		close(l.over)
		l.client.Close()
		l.server.Close()
	})
}

// up carries requests: three lines each.
func (l *link) up() {
	defer l.close()
	const lines = 3
	in, out := bufio.NewReaderSize(l.client, 128<<10), bufio.NewWriterSize(l.server, 128<<10)
	for {
		var frame []byte
		for range lines {
			line, err := in.ReadBytes('\n')
			if err != nil {
				return
			}
			frame = append(frame, line...)
		}
		id, r := parseRequest(frame)
		if id > 0 {
			l.mu.Lock()
			l.asked[id] = r
			l.mu.Unlock()
		}
		if !l.pass(in, out, frame, l.gate.see(r.command, r.key, mark{})) {
			return
		}
	}
}

// down carries answers: a line each.
func (l *link) down() {
	defer l.close()
	in, out := bufio.NewReaderSize(l.server, 128<<10), bufio.NewWriterSize(l.client, 128<<10)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		id, status, run := parseAnswer(line)
		l.mu.Lock()
		r := l.asked[id]
		delete(l.asked, id)
		l.mu.Unlock()
		m := mark{key: r.key, run: run}
		if r.command == "put" && status == "ok" {
			m.run = r.run
		}
		if !l.pass(in, out, line, l.gate.see(r.command+" "+status, r.key, m)) {
			return
		}
	}
}

// pass forwards a frame, unless the rule stops it. False ends the link.
func (l *link) pass(in *bufio.Reader, out *bufio.Writer, frame []byte, r *stop) bool {
	n := len(frame)
	if r != nil {
		n = [...]int{none: 0, half: len(frame) / 2, whole: len(frame)}[r.forward]
	}
	_, _ = out.Write(frame[:n])
	if r == nil && in.Buffered() > 0 {
		return true // more comes at once
	}
	if out.Flush() != nil {
		return false
	}
	if r == nil {
		return true
	}
	if r.first {
		r.act(l.gate)
	}
	if r.release == nil {
		return false
	}
	select {
	case <-r.release:
	case <-l.over:
		return false
	}
	_, err := out.Write(frame[n:])
	return err == nil && out.Flush() == nil
}

// parseRequest reads a request. Hello has no ID.
func parseRequest(frame []byte) (id uint64, r request) {
	lines := strings.SplitN(string(frame), "\n", 3)
	number, command, ok := strings.Cut(lines[0], " ")
	if !ok {
		return 0, request{command: lines[0], key: lines[1]}
	}
	id, _ = strconv.ParseUint(number, 10, 64)
	r = request{command: command, key: lines[1]}
	if fields := strings.Fields(lines[2]); command == "put" && len(fields) >= 3 {
		r.run = runOf(fields[2])
	}
	return id, r
}

// parseAnswer reads an answer, and of a value the run.
func parseAnswer(line []byte) (id uint64, status, run string) {
	number, rest, _ := strings.Cut(string(line), " ")
	status, rest, _ = strings.Cut(strings.TrimSuffix(rest, "\n"), " ")
	id, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0, number, "" // to hello
	}
	if fields := strings.Fields(rest); status == "value" && len(fields) == 3 {
		run = runOf(fields[2])
	}
	return id, status, run
}

// runOf is what tells the run of a record from others: the first line is JSON.
func runOf(data string) string {
	var head struct{ Run string }
	b, err := base64.StdEncoding.DecodeString(data)
	if err == nil {
		b, _, _ = bytes.Cut(b, []byte("\n"))
		err = json.Unmarshal(b, &head)
	}
	if err != nil || head.Run == "" {
		return "what is no record: " + data
	}
	return head.Run
}

// TestGate sends frames past rules, to a server that answers each with ok.
func TestGate(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	assert.Sure(t, err)
	defer ln.Close()
	g := startGate(t, ln.Addr().String())
	release := make(chan struct{})
	acted := make(chan struct{})
	g.arm(&rule{what: "put", key: "k", forward: half, act: func(*gate) { close(acted) }, release: release})
	client, err := net.Dial("tcp", g.addr())
	assert.Sure(t, err)
	defer client.Close()
	record := base64.StdEncoding.EncodeToString([]byte(`{"run":"R"}` + "\n{}"))
	_, err = io.WriteString(client, "hello\n_\n1 me\n7 get\nk\n_\n8 put\nk\nt 0 "+record+"\n9 put\nk\nt 0 AAAA\n")
	assert.Sure(t, err)
	server, err := ln.Accept()
	assert.Sure(t, err)
	defer server.Close()
	read := func(want string) {
		t.Helper()
		b := make([]byte, len(want))
		if _, err := io.ReadFull(server, b); err != nil || string(b) != want {
			t.Fatalf("the server got %q, %v; want %q", b, err, want)
		}
	}
	put := "8 put\nk\nt 0 " + record + "\n"
	read("hello\n_\n1 me\n7 get\nk\n_\n" + put[:len(put)/2])
	<-acted
	close(release)
	read(put[len(put)/2:] + "9 put\nk\nt 0 AAAA\n")
	answers := "ok 1 S\n7 value 41 3 " + record + "\n8 ok 42\n9 error\n"
	_, err = io.WriteString(server, answers)
	assert.Sure(t, err)
	b := make([]byte, len(answers))
	if _, err := io.ReadFull(client, b); err != nil || string(b) != answers {
		t.Fatalf("the client got %q, %v", b, err)
	}
	counts, marks := g.taken()
	if counts["put"] != 2 || counts["put ok"] != 1 || counts["put error"] != 1 || counts["get value"] != 1 || counts["hello"] != 1 {
		t.Errorf("counted %v", counts)
	}
	if len(marks) != 2 || marks[0] != (mark{"k", "R"}) || marks[1] != (mark{"k", "R"}) {
		t.Errorf("saw %v", marks)
	}
}
