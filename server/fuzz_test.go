package server_test

import (
	"bytes"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/server"
)

// FuzzServer lets two clients send arbitrary bytes, and time pass between them.
// The server must neither panic nor hang, must answer in the protocol, no more
// than was asked, and must forget both when they are gone.
func FuzzServer(f *testing.F) {
	files, err := filepath.Glob("testdata/conformance/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatalf("no recordings: %v", err)
	}
	for _, file := range files {
		for _, c := range parseRecording(f, file).cases {
			a, b := sides(c)
			f.Add([]byte(a), []byte(b), uint8(2))
		}
	}
	for _, s := range badInputs {
		f.Add([]byte(s), []byte(wire("l|k|0")), uint8(0))
		f.Add([]byte(s), []byte(wire("e|k|5", "w|k|9", "stats|_|_")), uint8(60))
	}
	f.Fuzz(func(t *testing.T, one, two []byte, pause uint8) {
		if bytes.Contains(one, []byte("hello")) || bytes.Contains(two, []byte("hello")) {
			return // for FuzzSessions: what sessions hold outlives their connections
		}
		synctest.Test(t, func(t *testing.T) {
			s := start(t, server.Config{MaxWaiters: 3, MaxLocks: 5, MaxConnections: 2, ReadTimeout: 20 * time.Second})
			a, b := newFuzzed(s), newFuzzed(s)
			a.say(one)
			b.say(two)
			time.Sleep(time.Duration(pause) * time.Second)
			a.say(two)
			synctest.Wait()
			a.hangUp(t, bytes.Count(one, []byte("\n"))+bytes.Count(two, []byte("\n")))
			b.hangUp(t, bytes.Count(two, []byte("\n")))
			synctest.Wait()
			empty(t, s)
			s.Close()
		})
	})
}

// badInputs are what once broke some server.
var badInputs = []string{
	"", "\n", "\n\n\n", "\r\n", "\r\n\r\n\r\n", "\r", "l\nk", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	strings.Repeat("x", 255) + "\n\n\n", strings.Repeat("x", 256) + "\n\n\n", strings.Repeat("x", 257) + "\n\n\n", strings.Repeat("x", 1<<16),
	"l\n\x00\n0\n", "l\n\x7f\n0\n", "l\n\xff\n0\n", "l\n\u2028\n0\n", "l\n🔒\n0\n", "l\n../\n0\n", "l\n%n\n0\n", "l\n\x1b[2J\n0\n",
	wire("l|k|0", "l|k|9223372036 9223372036"), wire("l|k|9223372037"), wire("l|k|-1"), wire("l|k|00"), wire("l|k|+5"), wire("l|k|1e9"), wire("l|k|0x10"), wire("l|k|٣"),
	wire("sl|k|0 0"), wire("sl|k|0 -1"), wire("sl|k|0 2147483648"), wire("l|k|0", "sl|k|0 1", "sl|k|0 2"), wire("w|k|0"), wire("e|k|", "e|k|", "w|k|0", "w|k|0"),
	wire("auth|_|x", "auth|_|x"), wire("L|k|0"), wire("r|k|" + strings.Repeat("0", 32)), wire("l|k|0") + strings.Repeat(wire("l|k|1"), 50),
}

// sides joins what the first client of a recorded case sends, and the others.
func sides(c recordedCase) (first, others string) {
	for _, s := range c.steps {
		text := ""
		switch s.verb {
		case ">":
			text = wire(s.detail)
		case ">raw":
			text = strings.NewReplacer(`\n`, "\n", `\r`, "\r").Replace(s.detail)
		}
		if s.conn == c.steps[0].conn {
			first += text
		} else {
			others += text
		}
	}
	return first, others
}

// A fuzzed client sends what it is told to and reads what comes.
type fuzzed struct {
	*peer
	answers bytes.Buffer
	read    chan struct{}
}

func newFuzzed(s *server.Server) *fuzzed {
	f := &fuzzed{peer: connect(s), read: make(chan struct{})}
	go func() {
		defer close(f.read)
		io.Copy(&f.answers, f.nc)
	}()
	return f
}

// say sends what the server takes: it may have closed, or read enough ahead.
func (f *fuzzed) say(b []byte) {
	f.nc.SetWriteDeadline(time.Now().Add(time.Millisecond))
	f.nc.Write(b)
}

func (f *fuzzed) hangUp(t *testing.T, lines int) {
	f.nc.Close()
	<-f.read
	answers := codec.NewAnswerReader(&f.answers)
	for n := 0; ; n++ {
		var a codec.Answer
		if err := answers.Read(&a); err == io.EOF {
			// One error may come unasked, at the end.
			if n > lines/3+1 {
				t.Fatalf("%d answers to %d lines", n, lines)
			}
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
