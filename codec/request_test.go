package codec_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/distributed-go/distributed/codec"
)

const hex32 = "0123456789abcdef0123456789abcdef"

func token(t testing.TB, s string) codec.Token {
	t.Helper()
	tok, ok := codec.ParseToken([]byte(s))
	if !ok {
		t.Fatalf("%q is no token", s)
	}
	return tok
}

// requests are requests and how they look on the wire, both ways.
func requests(t testing.TB) map[string]codec.Request {
	tok := token(t, hex32)
	key := []byte("k")
	return map[string]codec.Request{
		"l\nk\n0\n":                       {Command: codec.Lock, Key: key},
		"l\nk\n10\n":                      {Command: codec.Lock, Key: key, Timeout: 10 * time.Second},
		"l\nk\n10 60\n":                   {Command: codec.Lock, Key: key, Timeout: 10 * time.Second, TTL: time.Minute},
		"sl\nk\n0 3\n":                    {Command: codec.Lock, Semaphore: true, Key: key, Limit: 3},
		"sl\nk\n0 3 7\n":                  {Command: codec.Lock, Semaphore: true, Key: key, Limit: 3, TTL: 7 * time.Second},
		"r\nk\n" + hex32 + "\n":           {Command: codec.Release, Key: key, Token: tok},
		"sr\nk\n" + hex32 + "\n":          {Command: codec.Release, Semaphore: true, Key: key, Token: tok},
		"n\nk\n" + hex32 + "\n":           {Command: codec.Renew, Key: key, Token: tok},
		"n\nk\n" + hex32 + " 5\n":         {Command: codec.Renew, Key: key, Token: tok, TTL: 5 * time.Second},
		"sn\nk\n" + hex32 + " 5\n":        {Command: codec.Renew, Semaphore: true, Key: key, Token: tok, TTL: 5 * time.Second},
		"e\nk\n\n":                        {Command: codec.Enqueue, Key: key},
		"e\nk\n9\n":                       {Command: codec.Enqueue, Key: key, TTL: 9 * time.Second},
		"se\nk\n2\n":                      {Command: codec.Enqueue, Semaphore: true, Key: key, Limit: 2},
		"se\nk\n2 9\n":                    {Command: codec.Enqueue, Semaphore: true, Key: key, Limit: 2, TTL: 9 * time.Second},
		"w\nk\n5\n":                       {Command: codec.Wait, Key: key, Timeout: 5 * time.Second},
		"sw\nk\n0\n":                      {Command: codec.Wait, Semaphore: true, Key: key},
		"auth\n_\nhunter2\n":              {Command: codec.Auth, Secret: []byte("hunter2")},
		"force\nk\nlock\n":                {Command: codec.Force, Key: key},
		"force\nk\nsemaphore\n":           {Command: codec.Force, Semaphore: true, Key: key},
		"ping\n_\n_\n":                    {Command: codec.Ping},
		"stats\n_\n_\n":                   {Command: codec.Stats},
		"l\nschlüssel-鍵\n5\n":             {Command: codec.Lock, Key: []byte("schlüssel-鍵"), Timeout: 5 * time.Second},
		"l\n../%n\n9223372036\n":          {Command: codec.Lock, Key: []byte("../%n"), Timeout: 9223372036 * time.Second},
		"sl\nk\n0 2147483647\n":           {Command: codec.Lock, Semaphore: true, Key: key, Limit: math.MaxInt32},
		"auth\n_\n two words\t\x00\xff\n": {Command: codec.Auth, Secret: []byte(" two words\t\x00\xff")},
	}
}

func TestRequestsBothWays(t *testing.T) {
	for wire, want := range requests(t) {
		if got := string(codec.AppendRequest(nil, &want)); got != wire {
			t.Errorf("AppendRequest(%v) = %q, want %q", want, got, wire)
		}
		var got codec.Request
		if err := codec.NewRequestReader(strings.NewReader(wire)).Read(&got); err != nil {
			t.Errorf("Read(%q): %v", wire, err)
		}
		if !equalRequests(got, want) {
			t.Errorf("Read(%q) = %v, want %v", wire, got, want)
		}
	}
}

// equalRequests takes no key and an empty key for the same.
func equalRequests(a, b codec.Request) bool {
	same := bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Secret, b.Secret) && bytes.Equal(a.Value, b.Value)
	a.Key, b.Key, a.Secret, b.Secret, a.Value, b.Value = nil, nil, nil, nil, nil, nil
	return same && reflect.DeepEqual(a, b)
}

func TestRequestsAsPeopleTypeThem(t *testing.T) {
	for wire, want := range map[string]string{
		"l\r\nk\r\n5\r\n":         "l\nk\n5\n",
		"l\nk\n  5   7 \n":        "l\nk\n5 7\n",
		"l\nk\n\t5\t7\t\n":        "l\nk\n5 7\n",
		"l\nk\n00\n":              "l\nk\n0\n",
		"l\nk\n007\n":             "l\nk\n7\n",
		"ping\n\n\n":              "ping\n_\n_\n",
		"stats\nanything\nx y\n":  "stats\n_\n_\n",
		"auth\nwhoever\nsecret\n": "auth\n_\nsecret\n",
		"auth\n_\nsecret\r\n":     "auth\n_\nsecret\n",
	} {
		var r codec.Request
		if err := codec.NewRequestReader(strings.NewReader(wire)).Read(&r); err != nil {
			t.Errorf("Read(%q): %v", wire, err)
			continue
		}
		if got := string(codec.AppendRequest(nil, &r)); got != want {
			t.Errorf("Read(%q) is %q, want %q", wire, got, want)
		}
	}
}

// malformed are requests that make no sense, each of three lines.
func malformed() []string {
	numbers := []string{"-1", "+5", "1e9", "0x10", "9223372037", "99999999999999999999", "٣", "1.5", "ten", "_1", "1_0", "½", "\x00"}
	keys := []string{
		"", " ", "k 39", "a\tb", "\r", "a\rb", "\x00", "\x01", "\x1f", "\x7f", "\x1b[2J", "a\x85b", "\u0085", "\u00a0", "\u2028", "\u3000", "\xff", "a\xc3", "\xed\xa0\x80",
	}
	arguments := map[string][]string{
		"l":     {"", " ", "1 2 3", "5 0", "5 -3", "5 x"},
		"sl":    {"", "5", "5 0", "5 -1", "5 x", "5 2 0", "5 2 3 4", "0 2147483648", "0 99999999999999999999"},
		"r":     {"", "abc", hex32 + " 1", hex32[:31], hex32 + "0", strings.ToUpper(hex32), hex32[:31] + "g"},
		"sr":    {"", "nope"},
		"n":     {"", "a 1 2", hex32 + " 0", hex32 + " -1", hex32 + " 1 2"},
		"sn":    {"", "x"},
		"e":     {"x", "0", "1 2"},
		"se":    {"", "0", "x", "1 0", "1 2 3"},
		"w":     {"", "x", "1 2"},
		"sw":    {"", "x", "1 2"},
		"force": {"", "_", "l", "Lock", "locks", "lock semaphore", "semaphore x", hex32}, "sforce": {"lock", "semaphore"}, "FORCE": {"lock"},
		"": {"5"}, "zz": {"5"}, "L": {"5"}, "LOCK": {"5"}, "s": {"5"}, "ss": {"5"}, "sping": {"_"}, "lock": {"5"}, " l": {"5"}, "l ": {"5"}, "AUTH": {"x"}, "hello": {"1 me"},
	}
	var wire []string
	for _, n := range numbers {
		wire = append(wire, "l\nk\n"+n+"\n", "l\nk\n0 "+n+"\n", "w\nk\n"+n+"\n", "sl\nk\n0 "+n+"\n", "se\nk\n"+n+"\n", "e\nk\n"+n+"\n", "n\nk\n"+hex32+" "+n+"\n")
	}
	for _, key := range keys {
		wire = append(wire, "l\n"+key+"\n5\n", "force\n"+key+"\nlock\n", "sr\n"+key+"\n"+hex32+"\n")
	}
	for command, list := range arguments {
		for _, argument := range list {
			wire = append(wire, command+"\nk\n"+argument+"\n")
		}
	}
	return wire
}

func TestMalformedRequestsLeaveTheReaderUsable(t *testing.T) {
	for _, wire := range malformed() {
		if strings.Count(wire, "\n") != 3 {
			t.Fatalf("bad test: %q", wire)
		}
		rr := codec.NewRequestReader(strings.NewReader(wire + "l\nnext\n7\n"))
		var r codec.Request
		if err := rr.Read(&r); err != codec.ErrMalformed {
			t.Errorf("Read(%q) = %v, %v; want ErrMalformed", wire, r, err)
			continue
		}
		if !equalRequests(r, codec.Request{}) {
			t.Errorf("Read(%q) left %v behind", wire, r)
		}
		if err := rr.Read(&r); err != nil || string(r.Key) != "next" || r.Timeout != 7*time.Second {
			t.Errorf("after %q came %v, %v", wire, r, err)
		}
	}
}

func TestLineLimits(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		name, wire string
		want       error
	}{
		{"command of 256", long(256) + "\nk\n5\n", codec.ErrMalformed},
		{"command of 257", long(257) + "\nk\n5\n", codec.ErrTooLong},
		{"key of 255", "l\n" + long(255) + "\n5\n", nil},
		{"key of 256", "l\n" + long(256) + "\n5\n", nil},
		{"key of 257", "l\n" + long(257) + "\n5\n", codec.ErrTooLong},
		{"key of 256 and CR", "l\n" + long(256) + "\r\n5\n", codec.ErrTooLong},
		{"argument of 256", "l\nk\n5" + strings.Repeat(" ", 255) + "\n", nil},
		{"argument of 257", "l\nk\n5" + strings.Repeat(" ", 256) + "\n", codec.ErrTooLong},
		{"key of auth of 257", "auth\n" + long(257) + "\nx\n", codec.ErrTooLong},
		{"secret of 64 KiB", "auth\n_\n" + long(64<<10) + "\n", nil},
		{"secret over 64 KiB", "auth\n_\n" + long(64<<10+1) + "\n", codec.ErrTooLong},
		{"auth in a key", "l\nauth\n" + long(257) + "\n", codec.ErrTooLong},
		{"no line at all", long(1 << 20), codec.ErrTooLong},
		{"empty", "", io.EOF},
		{"one line", "l\n", io.ErrUnexpectedEOF},
		{"half a line", "l", io.ErrUnexpectedEOF},
		{"two lines", "l\nk\n", io.ErrUnexpectedEOF},
		{"no last LF", "l\nk\n5", io.ErrUnexpectedEOF},
		{"only LF", "\n", io.ErrUnexpectedEOF},
		{"three LF", "\n\n\n", codec.ErrMalformed},
		{"three CR LF", "\r\n\r\n\r\n", codec.ErrMalformed},
		{"HTTP", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", codec.ErrMalformed},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + long(300), codec.ErrTooLong},
	} {
		for name, r := range map[string]io.Reader{"at once": strings.NewReader(c.wire), "byte by byte": iotest.OneByteReader(strings.NewReader(c.wire))} {
			var req codec.Request
			if err := codec.NewRequestReader(r).Read(&req); err != c.want {
				t.Errorf("%s, %s: %v, want %v", c.name, name, err, c.want)
			}
		}
	}
}

func TestTooLongIsSaidBeforeTheLineEnds(t *testing.T) {
	// A reader that fails when it is asked for more than a sender had to send.
	r := io.MultiReader(strings.NewReader("l\n"+strings.Repeat("x", 257)), iotest.ErrReader(errors.New("asked for more")))
	var req codec.Request
	if err := codec.NewRequestReader(r).Read(&req); err != codec.ErrTooLong {
		t.Errorf("Read = %v, want ErrTooLong", err)
	}
}

func TestReadGoesOnAfterATimeout(t *testing.T) {
	for cut := range len("l\nkey\n5 7\n") {
		wire := "l\nkey\n5 7\n"
		r := io.MultiReader(strings.NewReader(wire[:cut]), &failOnce{err: os.ErrDeadlineExceeded}, strings.NewReader(wire[cut:]))
		rr := codec.NewRequestReader(r)
		var req codec.Request
		if err := rr.Read(&req); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("cut at %d: %v, want a timeout", cut, err)
		}
		if err := rr.Read(&req); err != nil || string(req.Key) != "key" || req.TTL != 7*time.Second {
			t.Errorf("cut at %d: then %v, %v", cut, req, err)
		}
	}
}

// failOnce is a reader that fails once and then is at its end.
type failOnce struct{ err error }

func (f *failOnce) Read([]byte) (int, error) {
	err := f.err
	if err == nil {
		err = io.EOF
	}
	f.err = nil
	return 0, err
}

func TestReadErrorComesAfterTheBytesItCameWith(t *testing.T) {
	boom := errors.New("boom")
	rr := codec.NewRequestReader(iotest.DataErrReader(io.MultiReader(strings.NewReader("ping\n_\n_\n"), iotest.ErrReader(boom))))
	var r codec.Request
	if err := rr.Read(&r); err != nil {
		t.Errorf("Read = %v, want the request first", err)
	}
	if err := rr.Read(&r); err != boom {
		t.Errorf("Read = %v, want %v", err, boom)
	}
}

func TestReaderWithoutProgress(t *testing.T) {
	var r codec.Request
	if err := codec.NewRequestReader(emptyReader{}).Read(&r); err != io.ErrNoProgress {
		t.Errorf("Read = %v, want io.ErrNoProgress", err)
	}
}

type emptyReader struct{}

func (emptyReader) Read([]byte) (int, error) { return 0, nil }

func TestFillReadsAheadUpToItsCap(t *testing.T) {
	const request = "r\nkey\n" + hex32 + "\n"
	const count = 10000
	rr := codec.NewRequestReader(strings.NewReader("l\nkey\n5\n" + strings.Repeat(request, count)))
	var r codec.Request
	if err := rr.Read(&r); err != nil || r.Command != codec.Lock {
		t.Fatalf("Read = %v, %v", r, err)
	}
	fills := 0
	for ; ; fills++ {
		if err := rr.Fill(); err == codec.ErrFull {
			break
		} else if err != nil {
			t.Fatalf("Fill = %v", err)
		}
	}
	if n := rr.Buffered(); n < codec.MaxAhead || n > 2*codec.MaxAhead || fills == 0 {
		t.Errorf("%d bytes ahead after %d fills, want about %d", n, fills, codec.MaxAhead)
	}
	for i := range count {
		if err := rr.Read(&r); err != nil || r.Command != codec.Release || r.Token != token(t, hex32) {
			t.Fatalf("request %d = %v, %v", i, r, err)
		}
	}
	if err := rr.Fill(); err != io.EOF {
		t.Errorf("Fill at the end = %v, want io.EOF", err)
	}
}

func TestLongSecretDoesNotCostItsMemoryForEver(t *testing.T) {
	secret := strings.Repeat("s", codec.MaxSecret)
	pings := strings.Repeat("ping\n_\n_\n", 2)
	rr := codec.NewRequestReader(io.MultiReader(strings.NewReader("auth\n_\n"+secret+"\n"), strings.NewReader(pings)))
	var r codec.Request
	if err := rr.Read(&r); err != nil || string(r.Secret) != secret {
		t.Fatalf("Read = %v", err)
	}
	if err := rr.Read(&r); err != nil {
		t.Fatal(err)
	}
	if n := codec.BufferSize(rr); n > 8<<10 {
		t.Errorf("the buffer has %d bytes after a long secret", n)
	}
}

func TestDurationsAreRoundedUp(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0", 0: "0", 1: "1", 999 * time.Millisecond: "1", time.Second: "1", time.Second + 1: "2", 1500 * time.Millisecond: "2",
		math.MaxInt64: "9223372036", math.MinInt64: "0",
	} {
		wait := codec.Request{Command: codec.Wait, Key: []byte("k"), Timeout: d}
		if got := string(codec.AppendRequest(nil, &wait)); got != "w\nk\n"+want+"\n" {
			t.Errorf("a wait of %v is %q, want %s s", d, got, want)
		}
		ttl := strings.TrimPrefix(want, "0") // a lease of nothing is the server's default
		enqueue := codec.Request{Command: codec.Enqueue, Key: []byte("k"), TTL: d}
		if got := string(codec.AppendRequest(nil, &enqueue)); got != "e\nk\n"+ttl+"\n" {
			t.Errorf("a lease of %v is %q, want %q", d, got, ttl)
		}
	}
}

func TestSmugglingPanics(t *testing.T) {
	for _, r := range []codec.Request{
		{Command: codec.Lock, Key: []byte("k\n0\nr\nother")},
		{Command: codec.Auth, Secret: []byte("x\nping\n_\n_")},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("AppendRequest(%v) did not panic", r)
				}
			}()
			codec.AppendRequest(nil, &r)
		}()
	}
}

func TestCheckKeyAgreesWithTheReader(t *testing.T) {
	keys := []string{"k", "schlüssel-鍵", "🔒", "a\u200bb", "\u2028", "\u0085", "\xff", "a\xffb", "", strings.Repeat("x", 256), "a b", "a\tb", "\ufffd", "ab\ufeff"}
	for c := range 256 {
		if c != '\n' {
			keys = append(keys, "a"+string(rune(c))+"b", string([]byte{'a', byte(c), 'b'}))
		}
	}
	for _, key := range keys {
		var r codec.Request
		err := codec.NewRequestReader(strings.NewReader("l\n" + key + "\n5\n")).Read(&r)
		if check := codec.CheckKey(key); (check == nil) != (err == nil) {
			t.Errorf("CheckKey(%q) = %v, and Read says %v", key, check, err)
		}
	}
	for _, key := range []string{"a\nb", strings.Repeat("x", 257)} {
		if codec.CheckKey(key) == nil {
			t.Errorf("CheckKey(%q) = nil", key)
		}
	}
}

func TestCheckSecret(t *testing.T) {
	for secret, ok := range map[string]bool{
		"": false, "x": true, "a b": true, "a\nb": false, "a\r": false, "a\rb": true, strings.Repeat("x", codec.MaxSecret): true, strings.Repeat("x", codec.MaxSecret+1): false,
	} {
		err := codec.CheckSecret([]byte(secret))
		if (err == nil) != ok {
			t.Errorf("CheckSecret(%.20q) = %v", secret, err)
		}
		if err != nil && len(secret) > 1 && strings.Contains(err.Error(), secret) {
			t.Errorf("%v: tells the secret", err)
		}
	}
}

func TestNothingSecretIsPrinted(t *testing.T) {
	tok := token(t, hex32)
	r := codec.Request{Command: codec.Renew, Key: []byte("k"), Token: tok, Secret: []byte("hunter2")}
	a := codec.Answer{Status: codec.OK, Token: tok, HasToken: true, TTL: time.Second, HasTTL: true}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		for _, v := range []any{tok, &tok, r, &r, a, &a, []codec.Token{tok}} {
			out := fmt.Sprintf(verb, v)
			for _, leak := range []string{"hunter2", "68756e", hex32[:8], "0x1, 0x23", "1 35 69"} {
				if strings.Contains(out, leak) {
					t.Errorf("%s of %T prints %s", verb, v, out)
				}
			}
		}
	}
}

func TestTokenText(t *testing.T) {
	tok := token(t, hex32)
	if got := string(tok.AppendHex([]byte("x"))); got != "x"+hex32 {
		t.Errorf("AppendHex = %q", got)
	}
	if got := tok.Fence(); got != 0x0123456789abcdef {
		t.Errorf("Fence = %x", got)
	}
	for _, s := range []string{"", hex32[:31], hex32 + "0", strings.ToUpper(hex32), strings.Repeat("g", 32), strings.Repeat("\xff", 32), " " + hex32[1:]} {
		if _, ok := codec.ParseToken([]byte(s)); ok {
			t.Errorf("ParseToken(%q) took it", s)
		}
	}
}

func TestReadingRequestsAllocatesNothing(t *testing.T) {
	for wire := range requests(t) {
		loop := &loopReader{text: wire}
		rr := codec.NewRequestReader(loop)
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

// loopReader gives the same text for ever.
type loopReader struct {
	text string
	off  int
}

func (l *loopReader) Read(p []byte) (int, error) {
	n := copy(p, l.text[l.off:])
	l.off = (l.off + n) % len(l.text)
	return n, nil
}
