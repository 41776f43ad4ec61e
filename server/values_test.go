package server_test

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/distributed-go/distributed/server"
)

// TestValuesOverARestart puts, removes and lets expire, ends the server in both
// ways, and looks at what the next one has.
func TestValuesOverARestart(t *testing.T) {
	for _, clean := range []bool{false, true} {
		t.Run(fmt.Sprintf("clean %t", clean), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			s, p := onDisk(t, dir)
			p.hello(t)
			token := p.framed(t, "1 l|job|- 60")
			fence := strings.Fields(p.do(t, "2 put|job|"+token+" 0 b25jZQ=="))[2]
			other := p.framed(t, "3 l|gone|- 60")
			p.do(t, "4 put|gone|"+other+" 0 eA==")
			p.expect(t, "5 del|gone|"+other, "5 ok")
			brief := p.framed(t, "6 l|brief|- 60")
			p.do(t, "7 put|brief|"+brief+" 1ms eA==")
			time.Sleep(5 * time.Millisecond) // the value's own time, by the wall clock, which nothing can fake here
			if clean {
				if err := s.Shutdown(t.Context()); err != nil {
					t.Fatal(err)
				}
			} else {
				s.Close()
			}

			s, p = onDisk(t, dir)
			defer s.Close()
			p.hello(t)
			value := strings.Fields(p.do(t, "1 get|job|_"))
			if len(value) != 5 || value[1] != "value" || value[2] != fence || value[4] != "b25jZQ==" {
				t.Errorf("got %q, and it was put with the fence %s", value, fence)
			}
			if got := p.do(t, "2 join|job|0 60 -"); !strings.HasPrefix(got, "2 value "+fence+" ") {
				t.Errorf("who joined got %q", got)
			}
			p.expect(t, "3 get|gone|_", "3 nil")
			p.expect(t, "4 get|brief|_", "4 nil")
		})
	}
}

// TestVolatileValuesOverARestart: they are gone then, and nothing older is in their
// place; what came after them, or was put over what was on the disk, is there.
func TestVolatileValuesOverARestart(t *testing.T) {
	for _, clean := range []bool{false, true} {
		t.Run(fmt.Sprintf("clean %t", clean), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			s, p := onDisk(t, dir)
			p.hello(t)
			id := 0
			do := func(format string, args ...any) string {
				t.Helper()
				id++
				return strings.TrimPrefix(p.do(t, fmt.Sprintf("%d %s", id, fmt.Sprintf(format, args...))), fmt.Sprint(id, " "))
			}
			tokens := make(map[string]string)
			fences := make(map[string]string)
			put := func(key, data, word string) {
				t.Helper()
				if tokens[key] == "" {
					tokens[key] = strings.Fields(do("l|%s|- 60", key))[1]
				}
				words := strings.Fields(do("put|%s|%s 0 %s%s", key, tokens[key], data, word))
				if len(words) != 2 || words[0] != "ok" {
					t.Fatalf("put of %q: %q", key, words)
				}
				fences[key] = words[1]
			}
			shows := func(key, data string) {
				t.Helper()
				got := strings.Fields(do("get|%s|_", key))
				if data == "" && (len(got) != 1 || got[0] != "nil") || data != "" && (len(got) != 4 || got[1] != fences[key] || got[3] != data) {
					t.Errorf("under %q is %q, want %q with the fence %s", key, got, data, fences[key])
				}
			}
			put("gone", "b25l", " volatile")
			put("gone", "dHdv", " volatile")
			put("over", "b25l", "")
			put("over", "dHdv", " volatile")
			put("after", "b25l", " volatile")
			put("after", "dHdv", "")
			put("removed", "b25l", "")
			do("del|removed|%s", tokens["removed"])
			put("removed", "dHdv", " volatile")
			for key := range tokens {
				shows(key, "dHdv")
			}
			if clean {
				if err := s.Shutdown(t.Context()); err != nil {
					t.Fatal(err)
				}
			} else {
				s.Close()
			}

			s, p = onDisk(t, dir)
			defer s.Close()
			p.hello(t)
			shows("gone", "")
			shows("removed", "")
			shows("over", "dHdv")
			shows("after", "dHdv")
		})
	}
}

// TestValuesAreCounted refuses what is too large, and what there is no room for.
func TestValuesAreCounted(t *testing.T) {
	cfg := server.Config{MaxValue: 100, MaxValues: 1000}
	inVirtualTime(t, cfg, func(t *testing.T, s *server.Server) {
		p := connect(s)
		p.hello(t)
		value := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
		full := 0
		for i := range 10 {
			token := p.framed(t, fmt.Sprintf("%d l|k%d|- 60", 4*i+1, i))
			p.expect(t, fmt.Sprintf("%d put|k%d|%s 0 %s", 4*i+2, i, token, value(101)), fmt.Sprintf("%d error_too_large", 4*i+2))
			if got := p.do(t, fmt.Sprintf("%d put|k%d|%s 0 %s", 4*i+3, i, token, value(100))); got == fmt.Sprintf("%d error_full", 4*i+3) {
				full++
			}
		}
		if full != 7 { // 294 bytes each
			t.Errorf("%d of 10 found no room in 1,000 bytes", full)
		}
		p.send(wire("999 put|k0|" + strings.Repeat("0", 32) + " 0 " + value(2000))) //nolint:errcheck // it may be cut off before all is read
		p.closed(t)
	})
}

// onDisk starts a server on a directory, and connects to it.
func onDisk(t *testing.T, dir string) (*server.Server, *peer) {
	t.Helper()
	s, err := server.New(server.Config{DataDir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s, newPeer(dial(t, listenAndServe(t, s)))
}

// TestAPutThatAnswersManyWhoDoNotRead has one connection join a key many times
// and read nothing, until a put has answered all: that costs the server little, who
// else wants something gets it meanwhile, and in the end every answer is complete.
func TestAPutThatAnswersManyWhoDoNotRead(t *testing.T) {
	const joins = 500 // to read their answers takes seconds with the race detector, and a silent link lasts for 30
	_, connect := overTCP(t, server.Config{})
	p, q := connect(), connect()
	p.hello(t)
	token := p.framed(t, "1 l|k|- 60")
	q.hello(t)
	for id := range joins {
		q.ask(t, fmt.Sprintf("%d join|k|- 60", id+1))
	}
	q.expect(t, fmt.Sprintf("%d ping|_|_", joins+1), fmt.Sprintf("%d ok", joins+1)) // all of them wait
	value := base64.StdEncoding.EncodeToString(make([]byte, 64<<10))
	before := heapInUse()
	if got := p.do(t, "2 put|k|"+token+" 0 "+value); !strings.HasPrefix(got, "2 ok ") {
		t.Fatalf("put: %q", got)
	}
	if grew := heapInUse() - before; grew > 20<<20 {
		t.Errorf("%d answers of %d bytes take %d MB", joins, len(value), grew>>20)
	}
	if p.framed(t, "3 l|other|- 60") == "" {
		t.Error("nobody else is served")
	}
	for id := range joins {
		if words := strings.Fields(q.get(t)); len(words) != 5 || words[0] != fmt.Sprint(id+1) || words[1] != "value" || words[4] != value {
			t.Fatalf("answer %d has %d words: %.60q", id+1, len(words), words)
		}
	}
	q.expect(t, fmt.Sprintf("%d ping|_|_", joins+2), fmt.Sprintf("%d ok", joins+2))
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

// TestStatsOfValues shows them at keys that are held, idle, and known for their value
// alone; all else is as it is without values.
func TestStatsOfValues(t *testing.T) {
	inVirtualTime(t, server.Config{}, func(t *testing.T, s *server.Server) {
		p := connect(s)
		p.hello(t)
		for i, put := range []string{"idle|b25jZQ==", "empty|-"} {
			key, data, _ := strings.Cut(put, "|")
			token := p.framed(t, fmt.Sprintf("%d l|%s|- 60", 3*i+1, key))
			p.do(t, fmt.Sprintf("%d put|%s|%s 0 %s", 3*i+2, key, token, data))
			p.do(t, fmt.Sprintf("%d r|%s|%s", 3*i+3, key, token))
		}
		for i := range 12 { // idle keys are forgotten
			time.Sleep(10 * time.Second)
			p.expect(t, fmt.Sprintf("%d ping|_|_", 100+i), fmt.Sprintf("%d ok", 100+i))
		}
		held := p.framed(t, "113 l|held|- 60")
		p.do(t, "114 put|held|"+held+" 0 eA==")
		time.Sleep(1500 * time.Millisecond)
		p.expect(t, "115 stats|_|_", `115 ok {"connections":1,`+
			`"locks":[{"key":"held","owner_conn_id":1,"lease_expires_in_s":58.5,"waiters":0,"owner":"test","held_s":1.5,"value":{"bytes":1,"age_s":1.5}}],"semaphores":[],`+
			`"idle_locks":[{"key":"empty","idle_s":0,"value":{"bytes":0,"age_s":121.5}},{"key":"idle","idle_s":0,"value":{"bytes":4,"age_s":121.5}}],`+
			`"idle_semaphores":[],"state":"ready"}`)
		p.expect(t, "116 r|held|"+held, "116 ok")
		time.Sleep(time.Second)
		if got := p.do(t, "117 stats|_|_"); !strings.Contains(got, `{"key":"held","idle_s":1,"value":{"bytes":1,"age_s":2.5}}`) {
			t.Errorf("released: %s", got)
		}
	})
}
