package codec_test

import (
	"errors"
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/distributed-go/distributed/codec"
)

// sessionHex is a session's ID.
const sessionHex = "fedcba9876543210fedcba9876543210"

func session(t testing.TB) codec.SessionID {
	t.Helper()
	id, ok := codec.ParseSessionID([]byte(sessionHex))
	if !ok {
		t.Fatal("a good ID was refused")
	}
	return id
}

// frames are requests of session mode and how they look on the wire, both ways.
func frames(t testing.TB) map[string]codec.Request {
	tok := token(t, hex32)
	key := []byte("k")
	return map[string]codec.Request{
		"1 l\nk\n0\n":                                      {ID: 1, Command: codec.Lock, Key: key},
		"1 l\nk\n-\n":                                      {ID: 1, Command: codec.Lock, Key: key, NoTimeout: true},
		"2 l\nk\n- 1500ms\n":                               {ID: 2, Command: codec.Lock, Key: key, NoTimeout: true, TTL: 1500 * time.Millisecond},
		"3 l\nk\n10 60\n":                                  {ID: 3, Command: codec.Lock, Key: key, Timeout: 10 * time.Second, TTL: time.Minute},
		"4 l\nk\n1ms 1ms fences=3\n":                       {ID: 4, Command: codec.Lock, Key: key, Timeout: time.Millisecond, TTL: time.Millisecond, Fences: 3},
		"5 l\nk\n0 fences=1\n":                             {ID: 5, Command: codec.Lock, Key: key, Fences: 1},
		"6 sl\nk\n- 3\n":                                   {ID: 6, Command: codec.Lock, Semaphore: true, Key: key, NoTimeout: true, Limit: 3},
		"7 sl\nk\n10 3 2\n":                                {ID: 7, Command: codec.Lock, Semaphore: true, Key: key, Timeout: 10 * time.Second, Limit: 3, Weight: 2},
		"7 sl\nk\n10 3 4 30\n":                             {ID: 7, Command: codec.Lock, Semaphore: true, Key: key, Timeout: 10 * time.Second, Limit: 3, Weight: 4, TTL: 30 * time.Second},
		"7 sl\nk\n10 3 0 30\n":                             {ID: 7, Command: codec.Lock, Semaphore: true, Key: key, Timeout: 10 * time.Second, Limit: 3, TTL: 30 * time.Second},
		"7 sl\nk\n0 3 2 fences=2147483647\n":               {ID: 7, Command: codec.Lock, Semaphore: true, Key: key, Limit: 3, Weight: 2, Fences: math.MaxInt32},
		"7 sl\nk\n0 3 fences=2\n":                          {ID: 7, Command: codec.Lock, Semaphore: true, Key: key, Limit: 3, Fences: 2},
		"7 sl\nk\n0 2147483647 2147483647\n":               {ID: 7, Command: codec.Lock, Semaphore: true, Key: key, Limit: math.MaxInt32, Weight: math.MaxInt32},
		"8 r\nk\n" + hex32 + "\n":                          {ID: 8, Command: codec.Release, Key: key, Token: tok},
		"8 sr\nk\n" + hex32 + "\n":                         {ID: 8, Command: codec.Release, Semaphore: true, Key: key, Token: tok},
		"9 n\nk\n" + hex32 + "\n":                          {ID: 9, Command: codec.Renew, Key: key, Token: tok},
		"9 sn\nk\n" + hex32 + " 2500ms\n":                  {ID: 9, Command: codec.Renew, Semaphore: true, Key: key, Token: tok, TTL: 2500 * time.Millisecond},
		"10 e\nk\n\n":                                      {ID: 10, Command: codec.Enqueue, Key: key},
		"10 e\nk\nfences=2\n":                              {ID: 10, Command: codec.Enqueue, Key: key, Fences: 2},
		"10 e\nk\n9 fences=2\n":                            {ID: 10, Command: codec.Enqueue, Key: key, TTL: 9 * time.Second, Fences: 2},
		"11 se\nk\n2\n":                                    {ID: 11, Command: codec.Enqueue, Semaphore: true, Key: key, Limit: 2},
		"11 se\nk\n2 1 9 fences=2\n":                       {ID: 11, Command: codec.Enqueue, Semaphore: true, Key: key, Limit: 2, Weight: 1, TTL: 9 * time.Second, Fences: 2},
		"12 w\nk\n5 10\n":                                  {ID: 12, Command: codec.Wait, Key: key, Timeout: 5 * time.Second, Ticket: 10},
		"12 w\nk\n- 10\n":                                  {ID: 12, Command: codec.Wait, Key: key, NoTimeout: true, Ticket: 10},
		"12 sw\nk\n250ms 9223372036854775807\n":            {ID: 12, Command: codec.Wait, Semaphore: true, Key: key, Timeout: 250 * time.Millisecond, Ticket: codec.MaxID},
		"12 force\nk\nlock\n":                              {ID: 12, Command: codec.Force, Key: key},
		"12 force\nk\nsemaphore\n":                         {ID: 12, Command: codec.Force, Semaphore: true, Key: key},
		"13 ping\n_\n_\n":                                  {ID: 13, Command: codec.Ping},
		"14 stats\n_\n_\n":                                 {ID: 14, Command: codec.Stats},
		"15 cancel\n_\n10\n":                               {ID: 15, Command: codec.Cancel, Ticket: 10},
		"16 beat\n_\n_\n":                                  {ID: 16, Command: codec.Beat},
		"17 sync\n_\n_\n":                                  {ID: 17, Command: codec.Sync},
		"9223372036854775807 bye\n_\n_\n":                  {ID: codec.MaxID, Command: codec.Bye},
		"19 claim\nk\n" + hex32 + " 5 1 1\n":               {ID: 19, Command: codec.Claim, Key: key, Token: tok, TTL: 5 * time.Second, Limit: 1, Weight: 1},
		"19 claim\nk\n" + hex32 + " 1500ms 9 2147483647\n": {ID: 19, Command: codec.Claim, Key: key, Token: tok, TTL: 1500 * time.Millisecond, Limit: 9, Weight: math.MaxInt32},
		"20 put\nk\n" + hex32 + " 0 aGVsbG8=\n":            {ID: 20, Command: codec.Put, Key: key, Token: tok, Value: []byte("hello")},
		"20 put\nk\n" + hex32 + " 1500ms -\n":              {ID: 20, Command: codec.Put, Key: key, Token: tok, Keep: 1500 * time.Millisecond},
		"20 put\nk\n" + hex32 + " 86400 AP/+Cg==\n":        {ID: 20, Command: codec.Put, Key: key, Token: tok, Keep: 24 * time.Hour, Value: []byte{0, 0xff, 0xfe, '\n'}},
		"20 put\nk\n" + hex32 + " 5 aGVsbG8= volatile\n":   {ID: 20, Command: codec.Put, Key: key, Token: tok, Keep: 5 * time.Second, Value: []byte("hello"), Volatile: true},
		"20 put\nk\n" + hex32 + " 0 - volatile\n":          {ID: 20, Command: codec.Put, Key: key, Token: tok, Volatile: true},
		"21 get\nk\n_\n":                                   {ID: 21, Command: codec.Get, Key: key},
		"22 del\nk\n" + hex32 + "\n":                       {ID: 22, Command: codec.Delete, Key: key, Token: tok},
		"23 join\nk\n- 10\n":                               {ID: 23, Command: codec.Join, Key: key, NoTimeout: true, TTL: 10 * time.Second},
		"23 join\nk\n0 0\n":                                {ID: 23, Command: codec.Join, Key: key},
		"23 join\nk\n250ms 1500ms 60\n":                    {ID: 23, Command: codec.Join, Key: key, Timeout: 250 * time.Millisecond, TTL: 1500 * time.Millisecond, Fresh: time.Minute},
		"23 join\nk\n- 10 -\n":                             {ID: 23, Command: codec.Join, Key: key, NoTimeout: true, TTL: 10 * time.Second, Fresh: codec.AnyAge},
		"23 join\nk\n- 10 fences=3\n":                      {ID: 23, Command: codec.Join, Key: key, NoTimeout: true, TTL: 10 * time.Second, Fences: 3},
		"23 join\nk\n5 10 1ms fences=3\n":                  {ID: 23, Command: codec.Join, Key: key, Timeout: 5 * time.Second, TTL: 10 * time.Second, Fresh: time.Millisecond, Fences: 3},
		"18 l\nschlüssel-鍵\n9223372036 1 fences=9\n":       {ID: 18, Command: codec.Lock, Key: []byte("schlüssel-鍵"), Timeout: 9223372036 * time.Second, TTL: time.Second, Fences: 9},
	}
}

// frameReader returns a reader that was switched to session mode.
func frameReader(r io.Reader) *codec.RequestReader {
	rr := codec.NewRequestReader(r)
	rr.Frames(codec.MaxArgument)
	return rr
}

func TestFramesBothWays(t *testing.T) {
	for wire, want := range frames(t) {
		if got := string(codec.AppendRequest(nil, &want)); got != wire {
			t.Errorf("AppendRequest(%v) = %q, want %q", want, got, wire)
		}
		var got codec.Request
		if err := frameReader(strings.NewReader(wire)).Read(&got); err != nil {
			t.Errorf("Read(%q): %v", wire, err)
		}
		if !equalRequests(got, want) {
			t.Errorf("Read(%q) = %v, want %v", wire, got, want)
		}
	}
}

func TestFramesAsPeopleTypeThem(t *testing.T) {
	for wire, want := range map[string]string{
		"7 l\r\nk\r\n5\r\n":                        "7 l\nk\n5\n",
		"7 l\nk\n  5s\t 7000ms \n":                 "7 l\nk\n5 7\n",
		"7 l\nk\n2h 3m\n":                          "7 l\nk\n7200 180\n",
		"7 l\nk\n0ms 1us\n":                        "7 l\nk\n0 1ms\n",
		"7 l\nk\n1ns 1000001ns\n":                  "7 l\nk\n1ms 2ms\n",
		"7 l\nk\n007ms\n":                          "7 l\nk\n7ms\n",
		"7 l\nk\n2562047h\n":                       "7 l\nk\n9223369200\n",
		"7 l\nk\n -  \n":                           "7 l\nk\n-\n",
		"7 sl\nk\n0 3 02\n":                        "7 sl\nk\n0 3 2\n",
		"7 e\nk\n fences=07 \n":                    "7 e\nk\nfences=7\n",
		"7 ping\n\n\n":                             "7 ping\n_\n_\n",
		"7 stats\nwhatever\nx y\n":                 "7 stats\n_\n_\n",
		"7 beat\n_\n _ \n":                         "7 beat\n_\n_\n",
		"7 w\nk\n9223372036854ms 1\n":              "7 w\nk\n9223372036854ms 1\n",
		"7 join\nk\n 0ms 0s  0 \n":                 "7 join\nk\n0 0\n",
		"7 join\nk\n-\t2m\t-\tfences=1\n":          "7 join\nk\n- 120 - fences=1\n",
		"7 join\nk\n0 1 9223372036854775807ns\n":   "7 join\nk\n0 1 -\n",
		"7 get\nk\n _ \n":                          "7 get\nk\n_\n",
		"7 put\nk\n " + hex32 + "  2m\tYQ==  \r\n": "7 put\nk\n" + hex32 + " 120 YQ==\n",
	} {
		var r codec.Request
		if err := frameReader(strings.NewReader(wire)).Read(&r); err != nil {
			t.Errorf("Read(%q): %v", wire, err)
			continue
		}
		if got := string(codec.AppendRequest(nil, &r)); got != want {
			t.Errorf("Read(%q) is %q, want %q", wire, got, want)
		}
	}
}

// malformedFrames are frames with the ID 7 that make no sense.
func malformedFrames() []string {
	durations := []string{"-1", "+5", "5.5s", "1.5", "1h30m", "5 s", "ms", "5d", "5S", "5sec", "5µs", "--", "-s", "-5s", "1e3ms", "9223372037", "9223372036855ms", "9223372036854775808ns", "2562048h", "99999999999999999999999", "٣s", "5s\x00", "_"}
	ids := []string{"", "0", "007", "-1", "+1", "x", "9223372036854775808", "18446744073709551616", "1 2", "1ms"}
	arguments := map[string][]string{
		"l":  {"", "fences=1", "0 0", "0 0ms", "0 -", "0 5 6", "0 fences=0", "0 fences=-1", "0 fences=", "0 fences=2147483648", "0 fences=x", "0 fences=1 5", "0 fences=1 fences=1", "0 5 6 fences=1", "0 Fences=1", "0 fences 1"},
		"sl": {"", "0", "-", "0 0", "0 2147483648", "0 -", "0 3 -1", "0 3 2147483648", "0 3 x", "0 3 2s", "0 3 2 0", "0 3 2 5 6", "0 fences=2", "0 3 2 5 fences=0", "0 3 fences=2 5"},
		"r":  {"", hex32 + " 1", hex32[1:], strings.ToUpper(hex32)},
		"n":  {"", hex32 + " 0", hex32 + " 0ms", hex32 + " -", hex32 + " 5 5", hex32 + " fences=2", hex32 + " 5 fences=2"},
		"e":  {"0", "-", "5 5", "5 fences=0", "fences=1 5"},
		"se": {"", "0", "-", "3 -1", "3 1 0", "3 1 5 6", "fences=2"},
		"w":  {"", "5", "-", "- 5 6", "5 5 fences=2", "5 fences=2"},
		"sw": {"", "5"},
		"":   {"_"}, "claim": {"", "x", hex32, hex32 + " 5", hex32 + " 5 1", hex32 + " 0 1 1", hex32 + " - 1 1", hex32 + " 5 0 1", hex32 + " 5 1 0", hex32 + " 5 1 1 1", hex32 + " 5 1 2147483648", hex32 + " 5 1 1 fences=2"}, "sclaim": {hex32 + " 5 1 1"}, "L": {"0"}, "lock": {"0"}, " l": {"0"}, "l ": {"0"}, "8 l": {"0"}, "hello": {"1 me"}, "auth": {"secret"},
		"scancel": {"1"}, "sbeat": {"_"}, "\x00": {"_"},
		"put":  {"", "x", hex32, hex32 + " 0", hex32 + " YQ==", hex32 + " - YQ==", hex32 + " 0 YQ", hex32 + " 0 YQ=", hex32 + " 0 YR==", hex32 + " 0 Y Q==", hex32 + " 0 YQ==YQ==", hex32 + " 0 --", hex32 + " 0 -_-_", hex32 + " 0 =", hex32 + " 0 Y\rQ==", hex32 + " 0 \r", hex32 + " 0 YQ== 5", hex32 + " 0 YQ== durable", hex32 + " 0 YQ== Volatile", hex32 + " 0 YQ== volatile volatile", hex32 + " 0 YQ== fences=2", hex32[1:] + " 0 YQ==", "0 YQ=="},
		"sput": {hex32 + " 0 YQ=="}, "sget": {"_"}, "sjoin": {"0 5"}, "sdel": {hex32},
		"get": {"", "k", "_ _", hex32}, "del": {"", "_", hex32[1:], hex32 + " 0", hex32 + " " + hex32}, "delete": {hex32},
		"join": {"", "0", "-", "- -", "0 5 5 5", "0 5 - -", "0 fences=1", "0 5 fences=0", "0 5 fences=1 5", "0 5 -5", "0 5 5 fences=1 fences=1"},
	}
	var wire []string
	for _, d := range durations {
		wire = append(wire, "7 l\nk\n"+d+"\n", "7 l\nk\n0 "+d+"\n", "7 w\nk\n"+d+" 5\n", "7 e\nk\n"+d+"\n", "7 n\nk\n"+hex32+" "+d+"\n", "7 se\nk\n3 1 "+d+"\n", "7 put\nk\n"+hex32+" "+d+" YQ==\n", "7 join\nk\n"+d+" 5\n", "7 join\nk\n0 "+d+"\n", "7 join\nk\n0 5 "+d+"\n")
	}
	for _, id := range ids {
		wire = append(wire, "7 w\nk\n0 "+id+"\n", "7 cancel\n_\n"+id+"\n")
	}
	for command, list := range arguments {
		for _, argument := range list {
			wire = append(wire, "7 "+command+"\nk\n"+argument+"\n")
		}
	}
	for _, key := range []string{"", " ", "a b", "\x00", "\xff", "\u2028"} {
		wire = append(wire, "7 l\n"+key+"\n0\n", "7 e\n"+key+"\n\n", "7 w\n"+key+"\n0 1\n", "7 get\n"+key+"\n_\n", "7 join\n"+key+"\n0 5\n")
	}
	for _, command := range []string{"beat", "sync", "bye"} {
		wire = append(wire, "7 "+command+"\nk\n_\n", "7 "+command+"\n\n_\n", "7 "+command+"\n_\n\n", "7 "+command+"\n_\nx\n", "7 "+command+"\n_\n_ _\n")
	}
	return append(wire, "7\nk\n0\n", "7 cancel\nk\n1\n", "7 cancel\n_\n1 2\n", "7  l\nk\n0\n", "7 l \nk\n0\n")
}

func TestMalformedFramesKeepTheirID(t *testing.T) {
	for _, wire := range malformedFrames() {
		if strings.Count(wire, "\n") != 3 {
			t.Fatalf("bad test: %q", wire)
		}
		rr := frameReader(strings.NewReader(wire + "8 l\nnext\n1500ms\n"))
		var r codec.Request
		if err := rr.Read(&r); err != codec.ErrMalformed {
			t.Errorf("Read(%q) = %v, %v; want ErrMalformed", wire, r, err)
			continue
		}
		if !equalRequests(r, codec.Request{ID: 7}) {
			t.Errorf("Read(%q) left %v behind, want the ID alone", wire, r)
		}
		if err := rr.Read(&r); err != nil || r.ID != 8 || string(r.Key) != "next" || r.Timeout != 1500*time.Millisecond {
			t.Errorf("after %q came %v, %v", wire, r, err)
		}
	}
}

// malformedIDs are first words of frames to which no answer can belong.
var malformedIDs = []string{
	"", "0", "00", "007", "-1", "+1", "1.0", "1_0", "0x1", "1e3", "x", "l", "ping", "٣", "\x00", " 7", "\t7", "7\tl", "7,", "9223372036854775808", "18446744073709551615", "18446744073709551617", "99999999999999999999999999",
}

func TestFramesWithoutAnIDHaveNone(t *testing.T) {
	for _, id := range malformedIDs {
		for _, first := range []string{id, id + " l"} {
			var r codec.Request
			if err := frameReader(strings.NewReader(first + "\nk\n0\n")).Read(&r); err != codec.ErrMalformed || !equalRequests(r, codec.Request{}) {
				t.Errorf("Read(%q) = %v, %v; want ErrMalformed and nothing else", first, r, err)
			}
		}
	}
}

func TestFrameLimits(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		name, wire string
		want       error
	}{
		{"key of 256", "1 l\n" + long(256) + "\n5\n", nil},
		{"key of 257", "1 l\n" + long(257) + "\n5\n", codec.ErrTooLong},
		{"first line of 256", "1 " + long(254) + "\nk\n5\n", codec.ErrMalformed},
		{"first line of 257", "1 " + long(255) + "\nk\n5\n", codec.ErrTooLong},
		{"argument of 256", "1 l\nk\n5" + strings.Repeat(" ", 255) + "\n", nil},
		{"argument of 257", "1 l\nk\n5" + strings.Repeat(" ", 256) + "\n", codec.ErrTooLong},
		{"secret of 257", "1 auth\n_\n" + long(257) + "\n", codec.ErrTooLong},
		{"secret of the base protocol", "auth\n_\n" + long(257) + "\n", codec.ErrTooLong},
		{"value of 88,408", "1 put\nk\n" + long(codec.MaxArgument) + "\n", codec.ErrMalformed},
		{"value of 88,409", "1 put\nk\n" + long(codec.MaxArgument+1) + "\n", codec.ErrTooLong},
		{"value without an ID", "put\nk\n" + long(257) + "\n", codec.ErrTooLong},
		{"value with a bad ID", "0 put\nk\n" + long(257) + "\n", codec.ErrTooLong},
		{"no line at all", long(1 << 20), codec.ErrTooLong},
		{"empty", "", io.EOF},
		{"half a line", "1 l", io.ErrUnexpectedEOF},
		{"two lines", "1 l\nk\n", io.ErrUnexpectedEOF},
		{"base protocol", "l\nk\n5\n", codec.ErrMalformed},
	} {
		for name, r := range map[string]io.Reader{"at once": strings.NewReader(c.wire), "byte by byte": iotest.OneByteReader(strings.NewReader(c.wire))} {
			var req codec.Request
			if err := frameReader(r).Read(&req); err != c.want {
				t.Errorf("%s, %s: %v, want %v", c.name, name, err, c.want)
			}
		}
	}
}

func TestArgumentsMayBeCappedLower(t *testing.T) {
	for most, fits := range map[int]int{0: 256, 1000: 1000} {
		for size, want := range map[int]error{fits: codec.ErrMalformed, fits + 1: codec.ErrTooLong} {
			rr := codec.NewRequestReader(strings.NewReader("1 put\nk\n" + strings.Repeat("x", size) + "\n"))
			rr.Frames(most)
			var r codec.Request
			if err := rr.Read(&r); err != want {
				t.Errorf("%d bytes under a cap of %d: %v, want %v", size, most, err, want)
			}
		}
	}
}

func TestFrameDurationsAreRoundedUp(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0", 0: "0", 1: "1ms", 999 * time.Microsecond: "1ms", time.Millisecond: "1ms", time.Millisecond + 1: "2ms", 999*time.Millisecond + 1: "1000ms",
		time.Second: "1", 1500 * time.Millisecond: "1500ms", time.Minute: "60", math.MaxInt64: "9223372036854ms", math.MinInt64: "0",
	} {
		wait := codec.Request{ID: 1, Command: codec.Lock, Key: []byte("k"), Timeout: d}
		if got := string(codec.AppendRequest(nil, &wait)); got != "1 l\nk\n"+want+"\n" {
			t.Errorf("a wait of %v is %q, want %s", d, got, want)
		}
		ttl := strings.TrimPrefix(want, "0") // a lease of nothing is the server's default
		enqueue := codec.Request{ID: 1, Command: codec.Enqueue, Key: []byte("k"), TTL: d}
		if got := string(codec.AppendRequest(nil, &enqueue)); got != "1 e\nk\n"+ttl+"\n" {
			t.Errorf("a lease of %v is %q, want %q", d, got, ttl)
		}
	}
}

func TestBaseProtocolKnowsNothingOfFrames(t *testing.T) {
	wires := []string{"l\nk\n-\n", "l\nk\n5s\n", "l\nk\n0 1500ms\n", "l\nk\n0 5 fences=1\n", "l\nk\nfences=1\n", "e\nk\nfences=1\n", "sl\nk\n0 3 2 5\n", "w\nk\n0 5\n", "cancel\n_\n1\n", "beat\n_\n_\n", "sync\n_\n_\n", "bye\n_\n_\n"}
	for wire := range frames(t) {
		wires = append(wires, wire)
	}
	for _, wire := range wires {
		var r codec.Request
		if err := codec.NewRequestReader(strings.NewReader(wire)).Read(&r); err != codec.ErrMalformed || !equalRequests(r, codec.Request{}) {
			t.Errorf("Read(%q) = %v, %v; want ErrMalformed and nothing else", wire, r, err)
		}
	}
}

func TestFieldsOfFramesAreNotWrittenWithoutAnID(t *testing.T) {
	for wire, want := range requests(t) {
		want.Weight, want.Fences, want.Ticket = 2, 3, 4
		if got := string(codec.AppendRequest(nil, &want)); got != wire {
			t.Errorf("AppendRequest(%v) = %q, want %q", want, got, wire)
		}
	}
}

func TestSwitchingKeepsWhatWasReadAhead(t *testing.T) {
	rr := codec.NewRequestReader(strings.NewReader("ping\n_\n_\nhello\n_\n1 me\n1 l\nk\n250ms\nping\n_\n_\n"))
	var r codec.Request
	for _, want := range []codec.Command{codec.Ping, codec.Hello} {
		if err := rr.Read(&r); err != nil || r.Command != want {
			t.Fatalf("Read = %v, %v; want %v", r, err, want)
		}
	}
	rr.Frames(codec.MaxArgument)
	if err := rr.Read(&r); err != nil || r.ID != 1 || r.Timeout != 250*time.Millisecond {
		t.Errorf("Read = %v, %v; want the first frame", r, err)
	}
	if err := rr.Read(&r); err != codec.ErrMalformed || r.ID != 0 {
		t.Errorf("Read = %v, %v; want ErrMalformed without an ID", r, err)
	}
}

func TestFrameReadGoesOnAfterATimeout(t *testing.T) {
	const wire = "12 l\nkey\n5 7s\n"
	for cut := range len(wire) {
		rr := frameReader(io.MultiReader(strings.NewReader(wire[:cut]), &failOnce{err: os.ErrDeadlineExceeded}, strings.NewReader(wire[cut:])))
		var req codec.Request
		if err := rr.Read(&req); !errors.Is(err, os.ErrDeadlineExceeded) || req.ID != 0 {
			t.Fatalf("cut at %d: %v, %v, want a timeout", cut, req, err)
		}
		if err := rr.Read(&req); err != nil || req.ID != 12 || req.TTL != 7*time.Second {
			t.Errorf("cut at %d: then %v, %v", cut, req, err)
		}
	}
}

func TestReadingFramesAllocatesNothing(t *testing.T) {
	for wire := range frames(t) {
		rr := frameReader(&loopReader{text: wire})
		var r codec.Request
		var dst []byte
		n := testing.AllocsPerRun(1000, func() {
			if err := rr.Read(&r); err != nil {
				t.Fatalf("Read(%q): %v", wire, err)
			}
			dst = codec.AppendRequest(dst[:0], &r)
		})
		if n != 0 {
			t.Errorf("reading and appending %q allocates %v times", wire, n)
		}
	}
}

func TestRefusingFramesAllocatesNothing(t *testing.T) {
	for _, wire := range malformedFrames() {
		rr := frameReader(&loopReader{text: wire})
		var r codec.Request
		if n := testing.AllocsPerRun(100, func() { rr.Read(&r) }); n != 0 {
			t.Errorf("refusing %q allocates %v times", wire, n)
		}
	}
}

func TestMisusePanics(t *testing.T) {
	key := []byte("k")
	for name, append := range map[string]func(){
		"beat without ID":         func() { codec.AppendRequest(nil, &codec.Request{Command: codec.Beat}) },
		"cancel without ID":       func() { codec.AppendRequest(nil, &codec.Request{Command: codec.Cancel, Ticket: 1}) },
		"endless wait without ID": func() { codec.AppendRequest(nil, &codec.Request{Command: codec.Lock, Key: key, NoTimeout: true}) },
		"hello with ID": func() {
			codec.AppendRequest(nil, &codec.Request{ID: 1, Command: codec.Hello, Hello: &codec.Greeting{Version: 1, Name: "me"}})
		},
		"auth with ID": func() { codec.AppendRequest(nil, &codec.Request{ID: 1, Command: codec.Auth, Secret: key}) },
		"name with LF": func() {
			codec.AppendRequest(nil, &codec.Request{Command: codec.Hello, Hello: &codec.Greeting{Version: 1, Name: "a\nb"}})
		},
		"process with a space": func() {
			codec.AppendRequest(nil, &codec.Request{Command: codec.Hello, Hello: &codec.Greeting{Version: 1, Name: "a", Process: "b c"}})
		},
		"key with LF in a frame": func() { codec.AppendRequest(nil, &codec.Request{ID: 1, Command: codec.Lock, Key: []byte("a\nb")}) },
		"lost key with a space": func() {
			codec.AppendAnswer(nil, &codec.Answer{Notice: codec.NoticeLost, Key: []byte("a b"), Reason: codec.ReasonExpired})
		},
		"lost without reason": func() { codec.AppendAnswer(nil, &codec.Answer{Notice: codec.NoticeLost, Key: key}) },
		"offers with LF":      func() { codec.AppendAnswer(nil, &codec.Answer{Version: 1, Status: codec.OK, Offers: []byte("a\nb")}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s did not panic", name)
				}
			}()
			append()
		}()
	}
}
