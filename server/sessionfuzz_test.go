package server_test

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/server"
)

// FuzzSessions lets two sessions send arbitrary frames, and the first be resumed
// after a pause. The server must neither panic nor hang, must answer in frames,
// each request once at most, and must be able to end.
func FuzzSessions(f *testing.F) {
	zeros := strings.Repeat("0", 32)
	for _, frames := range []string{
		"", wire("1 l|k|-", "2 e|k|5", "3 w|k|9 2", "4 cancel|_|2", "5 beat|_|_"), wire("1 l|k|0", "2 l|k|1500ms 3", "3 r|k|"+zeros, "4 stats|_|_", "5 bye|_|_", "6 ping|_|_"),
		wire("1 sl|k|0 4 3 fences=8", "2 se|k|4 2 20", "3 sl|k|- 4 1 20", "4 sw|k|- 2", "5 cancel|_|4", "6 sync|_|_"),
		wire("5 l|k|-", "5 l|k|-"), wire("5 l|k|-", "4 l|k|-"), wire("1 l|k|-", "hello|_|1 me"), wire("1 hello|_|1 me"), "1 \n\n\n", "\n\n\n", "1 l\nk",
		wire("9223372036854775807 ping|_|_", "9223372036854775808 ping|_|_"), wire("1 sl|k|0 1 2147483647"), wire("1 l|k|0 106751d"), wire("1 l|k|9223372036s 9223372036s"),
		strings.Repeat("x", 300), "1 put\nk\n" + strings.Repeat("v", 88_409) + "\n", wire("1 l|\x00|0", "2 l|\u2028|0", "3 l|🔒|0"), wire("1 e|k|1", "2 e|k|1", "3 w|k|0 1", "4 w|k|- 2", "5 w|k|- 2"),
	} {
		f.Add([]byte(frames), []byte(wire("1 l|k|- 2", "2 e|k|2", "3 w|k|- 2")), uint8(3))
		f.Add([]byte(frames), []byte(frames), uint8(70))
	}
	f.Add([]byte("1 l"), []byte(wire("1 l|k|\xf5 2", "2 e|k|2")), uint8(86))
	f.Fuzz(func(t *testing.T, one, two []byte, pause uint8) {
		synctest.Test(t, func(t *testing.T) {
			s := start(t, server.Config{MaxWaiters: 3, MaxLocks: 5})
			a, b := newFuzzedSession(t, s), newFuzzedSession(t, s)
			a.say(one)
			b.say(two)
			time.Sleep(time.Duration(pause) * time.Second)
			a.hangUp(t, 1)
			c := connect(s)
			if c.do(t, "hello|_|1 fuzz resume="+a.id) != "error_session" {
				resumed := listen(c, a.id)
				resumed.say(one)
				resumed.say([]byte(wire("9223372036854775806 sync|_|_")))
				resumed.say(two)
				synctest.Wait()
				// An ID that was new on this connection may be said again until sync.
				resumed.hangUp(t, 2)
			}
			c.nc.Close()
			b.hangUp(t, 1)
			synctest.Wait()
			s.Close()
		})
	})
}

// FuzzClaims lets a session say arbitrary frames to a server in its grace, in
// which $K, $S and $R become tokens of the server before.
func FuzzClaims(f *testing.F) {
	for _, frames := range []string{
		wire("1 claim|k|$K 10 1 1", "2 r|k|$K", "3 claim|k|$K 10 1 1"), wire("1 r|k|$K", "2 claim|k|$K 10 1 1", "3 l|k|0", "4 l|k|- 3"),
		wire("1 claim|s|$S 10s 3 2", "2 claim|s|$S 10 3 2", "3 sl|s|- 5 5", "4 beat|_|_"), wire("1 sl|s|- 5 5", "2 claim|s|$S 99h 3 2", "3 n|s|$S 5", "4 sn|s|$S 5"),
		wire("1 claim|long|$R 7200 1 1", "2 force|long|lock", "3 claim|long|$R 7200 1 1"), wire("1 claim|k|$S 10 1 1", "2 claim|s|$S 10 3 3", "3 claim|s|$S 10 2147483647 2147483647"),
		wire("1 e|k|9", "2 claim|k|$K 1ms 1 1", "3 w|k|- 1", "4 sr|s|$S", "5 bye|_|_"), wire("1 claim|k|$K 10 1 1", "1 claim|k|$K 10 1 1"),
	} {
		f.Add([]byte(frames), uint8(3), false)
		f.Add([]byte(frames), uint8(40), true)
	}
	f.Fuzz(func(t *testing.T, frames []byte, pause uint8, clean bool) {
		onMachine(t, server.Config{MaxLocks: 5}, func(t *testing.T, m *machine) {
			p := connect(m.s)
			p.session(t)
			say := strings.NewReplacer(
				"$K", p.framed(t, "1 l|k|- 20"), "$S", p.framed(t, "2 sl|s|- 3 2 20"), "$R", p.framed(t, "3 l|long|- 2h"),
			).Replace(string(frames))
			if clean {
				m.restart()
			} else {
				m.crash(true)
			}
			a, b := newFuzzedSession(t, m.s), connect(m.s)
			a.say([]byte(say))
			b.expect(t, "ping|_|_", "ok")
			if !clean {
				b.expect(t, "l|k|0", "timeout")
			}
			time.Sleep(time.Duration(pause) * time.Second)
			a.hangUp(t, 1)
			synctest.Wait()
			m.restart()
		})
	})
}

// A fuzzedSession says what it is told to and reads what comes.
type fuzzedSession struct {
	fuzzed
	id string
}

func newFuzzedSession(t *testing.T, s *server.Server) *fuzzedSession {
	p := connect(s)
	return listen(p, p.hello(t))
}

func listen(p *peer, id string) *fuzzedSession {
	f := &fuzzedSession{fuzzed{peer: p, read: make(chan struct{})}, id}
	go func() {
		defer close(f.read)
		io.Copy(&f.answers, f.r)
	}()
	return f
}

func (f *fuzzedSession) hangUp(t *testing.T, atMost int) {
	f.nc.Close()
	<-f.read
	whole := f.answers.Bytes()
	whole = whole[:bytes.LastIndexByte(whole, '\n')+1] // hung up in the middle of one
	answers := codec.NewAnswerReader(bytes.NewReader(whole))
	answers.Frames()
	seen := map[uint64]int{}
	for {
		var a codec.Answer
		if err := answers.Read(&a); err == io.EOF {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		if seen[a.ID]++; a.ID != 0 && seen[a.ID] > atMost {
			t.Fatalf("%d was answered %d times", a.ID, seen[a.ID])
		}
	}
}
