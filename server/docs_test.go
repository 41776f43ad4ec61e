package server_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/server"
)

const protocolPage = "../docs/protocol.md"

// A block is what stands between ``` in the page.
type block struct {
	line int
	info []string // the words behind the first ```
	text []string
}

func blocks(t testing.TB) (page string, all []block) {
	t.Helper()
	text, err := os.ReadFile(protocolPage)
	if err != nil {
		t.Fatal(err)
	}
	open := false
	for i, line := range strings.Split(string(text), "\n") {
		info, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && !open:
			all = append(all, block{line: i + 1, info: strings.Fields(info)})
			open = true
		case fence:
			open = false
		case open:
			all[len(all)-1].text = append(all[len(all)-1].text, line)
		}
	}
	if open {
		t.Fatalf("%s: the last block does not end", protocolPage)
	}
	return string(text), all
}

// transcripts returns the exchanges of a layer, with the settings that they
// need of a server.
func transcripts(t testing.TB, layer string, atLeast int) (cases []recordedCase, settings []map[string]string) {
	t.Helper()
	_, all := blocks(t)
	for _, b := range all {
		if len(b.info) < 2 || b.info[0] != "transcript" || b.info[1] != layer {
			continue
		}
		c := recordedCase{name: fmt.Sprintf("line%d", b.line)}
		for i, line := range b.text {
			c.steps = append(c.steps, parseStep(t, protocolPage, b.line+i+1, line))
		}
		cases = append(cases, c)
		settings = append(settings, parseSettings(t, strings.Join(b.info[2:], " ")))
	}
	if len(cases) < atLeast {
		t.Fatalf("%s has only %d exchanges of the layer %q", protocolPage, len(cases), layer)
	}
	return cases, settings
}

// TestDocumentedExchanges replays what the page shows of the base protocol.
func TestDocumentedExchanges(t *testing.T) { replayPage(t, "base", 7) }

// TestDocumentedSessions replays what the page shows of session mode.
func TestDocumentedSessions(t *testing.T) { replayPage(t, "session", 4) }

// TestDocumentedRestarts replays what the page shows of restarts.
func TestDocumentedRestarts(t *testing.T) {
	cases, _ := transcripts(t, "restart", 2)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			onMachine(t, server.Config{}, func(t *testing.T, m *machine) {
				c.end = func(how string) error {
					switch how {
					case "dies":
						m.crash(true)
					case "stops":
						m.restart()
					default:
						return fmt.Errorf("the server %s", how)
					}
					return nil
				}
				if err := replay(c, func() (net.Conn, error) { return pipe(m.s), nil }); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func replayPage(t *testing.T, layer string, atLeast int) {
	cases, settings := transcripts(t, layer, atLeast)
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, settings[i])
				if err := replay(c, func() (net.Conn, error) { return pipe(s), nil }); err != nil {
					t.Error(err)
				}
				s.Close()
			})
		})
	}
}

// TestDocumentedSessionsAreSpelledRight checks that what the page shows of
// session mode is spelled as package codec spells it, and that each request has
// one answer.
func TestDocumentedSessionsAreSpelledRight(t *testing.T) {
	cases, _ := transcripts(t, "session", 4)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			conns := map[string]*spelled{}
			for _, s := range c.steps {
				x := conns[s.conn]
				if x == nil {
					x = &spelled{asked: map[uint64]bool{}}
					conns[s.conn] = x
				}
				if err := x.check(s); err != nil {
					t.Errorf("line %d, %s%s %s: %v", s.line, s.conn, s.verb, s.detail, err)
				}
			}
			for name, x := range conns {
				if open := len(x.asked); open > 0 && !x.closed {
					t.Errorf("%d requests of %s have no answer", open, name)
				}
			}
		})
	}
}

// A spelled connection has frames on it after hello.
type spelled struct {
	frames bool
	closed bool
	asked  map[uint64]bool // without an answer yet
}

// spell puts 32 digits, other ones for other names, where the page has a name.
var spell = strings.NewReplacer("$T1", strings.Repeat("1", 32), "$T2", strings.Repeat("2", 32), "$S2", strings.Repeat("6", 32), "$S", strings.Repeat("5", 32), "$F1", "1234567890")

func (x *spelled) check(s step) error {
	text := spell.Replace(s.detail)
	switch s.verb {
	case ">":
		return x.request(wire(text))
	case "<":
		return x.answer(text + "\n")
	case ".", "!":
		x.closed = true
		return nil
	}
	return errors.New("not for session mode")
}

func (x *spelled) request(text string) error {
	rr := codec.NewRequestReader(strings.NewReader(text))
	if x.frames {
		rr.Frames(codec.MaxArgument)
	}
	var r codec.Request
	if err := rr.Read(&r); err != nil {
		return err
	}
	if again := string(codec.AppendRequest(nil, &r)); again != text {
		return fmt.Errorf("is spelled %q", again)
	}
	if x.asked[r.ID] || (r.ID == 0) != (r.Command == codec.Hello) {
		return errors.New("the ID is wrong")
	}
	x.asked[r.ID] = true
	return nil
}

func (x *spelled) answer(text string) error {
	ar := codec.NewAnswerReader(strings.NewReader(text))
	read := ar.ReadHello
	if x.frames {
		ar.Frames()
		read = ar.Read
	}
	var a codec.Answer
	if err := read(&a); err != nil {
		return err
	}
	if again := string(codec.AppendAnswer(nil, &a)); again != text {
		return fmt.Errorf("is spelled %q", again)
	}
	if a.Notice == 0 && !x.asked[a.ID] {
		return errors.New("nothing asked for it")
	}
	if a.Notice == 0 {
		delete(x.asked, a.ID)
	}
	x.frames = x.frames || a.Version > 0
	return nil
}

// TestDocumentIsWhole checks that every word and number of the wire is on the
// page.
func TestDocumentIsWhole(t *testing.T) {
	page, all := blocks(t)
	var words []string
	for c := codec.Command(1); c.String() != "invalid"; c++ {
		words = append(words, c.String())
	}
	for s := codec.Status(1); s.String() != "invalid"; s++ {
		words = append(words, s.String())
	}
	for n := codec.NoticeLost; n < codec.NoticeOther; n++ {
		words = append(words, "0 "+n.String())
	}
	words = append(words, "sl", "sr", "sn", "se", "sw", "fences=N", codec.ReasonExpired, codec.ReasonReleased, codec.ReasonRevoked)
	for _, word := range words {
		if !strings.Contains(page, "`"+word+"`") && !strings.Contains(page, "`"+word+" ") {
			t.Errorf("nothing is said of %q", word)
		}
	}
	for _, n := range []int64{codec.MaxLine, codec.MaxSecret, codec.MaxAnswer, codec.MaxStats, codec.MaxArgument, codec.MaxID, int64(time.Duration(1<<63-1) / time.Second)} {
		if !strings.Contains(page, grouped(n)) {
			t.Errorf("nothing is said of %s", grouped(n))
		}
	}
	sum := crc32.ChecksumIEEE([]byte("my-key"))
	if !strings.Contains(page, fmt.Sprintf("`my-key` that is %d, so with three servers index %d", sum, sum%3)) {
		t.Errorf("the sum of my-key is %d, index %d of 3", sum, sum%3)
	}
	i := slices.IndexFunc(all, func(b block) bool { return slices.Equal(b.info, []string{"json"}) })
	if i < 0 {
		t.Fatal("there is no report of statistics")
	}
	var report codec.ServerStats
	d := json.NewDecoder(strings.NewReader(strings.Join(all[i].text, "\n")))
	d.DisallowUnknownFields()
	if err := d.Decode(&report); err != nil {
		t.Error(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(strings.Join(all[i].text, ""))); err != nil || compact.String() != string(report.JSON()) {
		t.Errorf("the report is %s, %v; the server would say %s", compact.String(), err, report.JSON())
	}
}

// grouped writes a number with commas.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
