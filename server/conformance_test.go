package server_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/server"
)

// quiet is how long nothing must arrive where a recording says "silent".
const quiet = 150 * time.Millisecond

// A recording is one file of recorded exchanges, in the format that the README
// beside it describes.
type recording struct {
	settings map[string]string // as environment variables
	cases    []recordedCase
}

type recordedCase struct {
	name  string
	steps []step
	end   func(how string) error // ends the server, and begins another one; nil if no step does
}

// A step is one line of a case.
type step struct {
	line   int
	conn   string // which connection; empty for a sleep and a server
	verb   string // one of > >raw < ? ! . sleep and, for what ends the server, server
	detail string
}

// TestConformance replays the recordings over TCP: all at once, for they mostly
// wait, the cases of a file use keys of their own, and parallel subtests would
// be no more than there are processors.
func TestConformance(t *testing.T) {
	type running struct {
		name    string
		outcome chan error
	}
	var all []running
	for _, file := range recordings(t) {
		rec := parseRecording(t, file)
		addr := listenAndServe(t, newServer(t, rec.settings))
		for _, c := range rec.cases {
			r := running{strings.TrimSuffix(filepath.Base(file), ".txt") + "/" + c.name, make(chan error, 1)}
			all = append(all, r)
			go func() { r.outcome <- replay(c, func() (net.Conn, error) { return net.Dial("tcp", addr) }) }()
		}
	}
	for _, r := range all {
		t.Run(r.name, func(t *testing.T) {
			if err := <-r.outcome; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestConformanceInVirtualTime replays the same over net.Pipe, which knows
// neither buffers nor half-closed connections, and takes no time.
func TestConformanceInVirtualTime(t *testing.T) {
	for _, file := range recordings(t) {
		rec := parseRecording(t, file)
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, rec.settings)
				for _, c := range rec.cases {
					if err := replay(c, func() (net.Conn, error) { return pipe(s), nil }); err != nil {
						t.Errorf("%s: %v", c.name, err)
					}
				}
				s.Close()
			})
		})
	}
}

func recordings(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/conformance/*.txt")
	if err != nil || len(files) < 8 {
		t.Fatalf("recordings: %v, %v", files, err)
	}
	return files
}

var startedWith = regexp.MustCompile(`^# Recorded from .* started with: (.*)$`)

func parseRecording(t testing.TB, file string) recording {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	rec := recording{}
	for i, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		if m := startedWith.FindStringSubmatch(line); m != nil {
			rec.settings = parseSettings(t, m[1])
			continue
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if name, ok := strings.CutPrefix(line, "== "); ok {
			rec.cases = append(rec.cases, recordedCase{name: name})
			continue
		}
		if len(rec.cases) == 0 {
			t.Fatalf("%s:%d: no case has begun", file, i+1)
		}
		c := &rec.cases[len(rec.cases)-1]
		c.steps = append(c.steps, parseStep(t, file, i+1, line))
	}
	if rec.settings == nil || len(rec.cases) == 0 {
		t.Fatalf("%s: settings %v, %d cases", file, rec.settings, len(rec.cases))
	}
	return rec
}

// flags are the flags that occur in recordings, and their variables.
var flags = map[string]string{
	"--auth-token":   "DFLOCKD_AUTH_TOKEN",
	"--max-locks":    "DFLOCKD_MAX_LOCKS",
	"--max-waiters":  "DFLOCKD_MAX_WAITERS",
	"--read-timeout": "DFLOCKD_READ_TIMEOUT_S",
}

func parseSettings(t testing.TB, text string) map[string]string {
	t.Helper()
	settings := map[string]string{}
	if text == "its defaults" {
		return settings
	}
	words := strings.Fields(text)
	for i := 0; i < len(words); i++ {
		if name, value, ok := strings.Cut(words[i], "="); ok {
			settings[name] = value
			continue
		}
		name, ok := flags[words[i]]
		if i++; !ok || i == len(words) {
			t.Fatalf("settings %q are not understood", text)
		}
		settings[name] = words[i]
	}
	return settings
}

var stepFormat = regexp.MustCompile(`^(\w+)(>raw|[><?!.]) (.*)$`)

func parseStep(t testing.TB, file string, line int, text string) step {
	t.Helper()
	if seconds, ok := strings.CutPrefix(text, "sleep "); ok {
		return step{line: line, verb: "sleep", detail: seconds}
	}
	if how, ok := strings.CutPrefix(text, "server "); ok {
		return step{line: line, verb: "server", detail: how}
	}
	m := stepFormat.FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("%s:%d: %q is not understood", file, line, text)
	}
	return step{line: line, conn: m[1], verb: m[2], detail: m[3]}
}

// replay runs one case.
func replay(c recordedCase, dial func() (net.Conn, error)) error {
	if len(c.steps) == 0 {
		return errors.New("the case has no steps")
	}
	p := &player{dial: dial, end: c.end, peers: map[string]*peer{}, words: map[string]string{}}
	defer p.hangUp()
	for _, s := range c.steps {
		if err := p.play(s); err != nil {
			return fmt.Errorf("line %d, %s%s %s: %w", s.line, s.conn, s.verb, s.detail, err)
		}
	}
	return nil
}

// A player plays the clients of one case.
type player struct {
	dial  func() (net.Conn, error)
	end   func(string) error
	peers map[string]*peer
	words map[string]string // what $NAME stands for
}

func (p *player) hangUp() {
	for _, peer := range p.peers {
		peer.nc.Close()
	}
}

func (p *player) play(s step) error {
	if s.verb == "sleep" {
		seconds, err := strconv.ParseFloat(s.detail, 64)
		time.Sleep(time.Duration(seconds * float64(time.Second))) // the recording slept too
		return err
	}
	if s.verb == "server" {
		return p.end(s.detail)
	}
	c := p.peers[s.conn]
	if c == nil {
		nc, err := p.dial()
		if err != nil {
			return err
		}
		c = newPeer(nc)
		p.peers[s.conn] = c
	}
	switch s.verb {
	case ">":
		parts := strings.Split(s.detail, "|")
		if len(parts) != 3 {
			return errors.New("a request has three parts")
		}
		return c.send(strings.Join(p.replace(parts), "\n") + "\n")
	case ">raw":
		raw, err := strconv.Unquote(`"` + strings.ReplaceAll(strings.ReplaceAll(s.detail, `"`, `\"`), `\0`, `\x00`) + `"`)
		return errors.Join(err, c.send(raw))
	case "<":
		line, err := c.line(patience)
		if err != nil {
			return err
		}
		return p.match(s.detail, line)
	case "?":
		if line, err := c.line(quiet); !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("got %q, %v", line, err)
		}
		return nil
	case "!":
		if line, err := c.line(patience); err != io.EOF {
			return fmt.Errorf("got %q, %v", line, err)
		}
		return nil
	}
	delete(p.peers, s.conn)
	return c.nc.Close()
}

// replace puts in what $NAME stands for; every argument that is one word may be
// such a name, and so may what follows a =.
func (p *player) replace(parts []string) []string {
	for i, part := range parts {
		words := strings.Split(part, " ")
		for j, word := range words {
			at := strings.IndexByte(word, '=') + 1
			if value, ok := p.words[word[at:]]; ok {
				words[j] = word[:at] + value
			}
		}
		parts[i] = strings.Join(words, " ")
	}
	return parts
}

func (p *player) match(pattern, line string) error {
	want, got := strings.Split(pattern, " "), strings.Split(line, " ")
	if want[len(want)-1] == "*" {
		want = want[:len(want)-1]
		got = got[:min(len(got), len(want))]
	}
	same := slices.EqualFunc(want, got, func(w, g string) bool {
		if strings.HasPrefix(w, "$") {
			if p.words[w] == "" {
				p.words[w] = g
			}
			return p.words[w] == g
		}
		if about, ok := strings.CutPrefix(w, "~"); ok {
			n, err := strconv.Atoi(about)
			m, err2 := strconv.Atoi(g)
			return err == nil && err2 == nil && m >= n-1 && m <= n+1
		}
		return w == g
	})
	if !same {
		return fmt.Errorf("got %q", line)
	}
	return nil
}

func newServer(t testing.TB, env map[string]string) *server.Server {
	t.Helper()
	settings, err := server.SettingsFromEnv(func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	return start(t, settings.Config)
}
