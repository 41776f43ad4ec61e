package codec_test

import (
	"bytes"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/distributed-go/distributed/codec"
)

// frameAnswers are lines of a server in session mode, both ways.
func frameAnswers(t testing.TB) map[string]codec.Answer {
	tok := token(t, hex32)
	key := []byte("schlüssel-鍵")
	return map[string]codec.Answer{
		"1 ok\n":                      {ID: 1, Status: codec.OK},
		"9223372036854775807 ok\n":    {ID: codec.MaxID, Status: codec.OK},
		"1 ok 0ms\n":                  {ID: 1, Status: codec.OK, HasTTL: true},
		"1 ok 33000ms\n":              {ID: 1, Status: codec.OK, HasTTL: true, TTL: 33 * time.Second},
		"1 ok " + hex32 + " 1500ms\n": {ID: 1, Status: codec.OK, HasToken: true, Token: tok, HasTTL: true, TTL: 1500 * time.Millisecond},
		"1 ok " + digits32 + " 9223372036854ms\n": {ID: 1, Status: codec.OK, HasToken: true, Token: token(t, digits32), HasTTL: true, TTL: 9223372036854 * time.Millisecond},
		"1 acquired " + hex32 + " 7000ms\n":       {ID: 1, Status: codec.Acquired, HasToken: true, Token: tok, HasTTL: true, TTL: 7 * time.Second},
		"1 queued 0\n":                            {ID: 1, Status: codec.Queued},
		"1 queued 2147483647\n":                   {ID: 1, Status: codec.Queued, Position: math.MaxInt32},
		"1 timeout\n":                             {ID: 1, Status: codec.Timeout},
		"1 timeout web-3/4711/worker 2500ms\n":    {ID: 1, Status: codec.Timeout, Holder: "web-3/4711/worker", HeldFor: 2500 * time.Millisecond},
		"1 timeout me 0ms\n":                      {ID: 1, Status: codec.Timeout, Holder: "me"},
		"1 timeout 5 5ms\n":                       {ID: 1, Status: codec.Timeout, Holder: "5", HeldFor: 5 * time.Millisecond},
		"1 timeout - 9223372036854ms\n":           {ID: 1, Status: codec.Timeout, HeldFor: 9223372036854 * time.Millisecond},
		"1 ok 0\n":                                {ID: 1, Status: codec.OK, HasTTL: true, HasCount: true, HasFence: true},
		"1 ok 7\n":                                {ID: 1, Status: codec.OK, HasTTL: true, TTL: 7 * time.Second, Count: 7, HasCount: true, Fence: 7, HasFence: true},
		"1 ok 2147483648\n":                       {ID: 1, Status: codec.OK, HasTTL: true, TTL: 2147483648 * time.Second, Fence: 2147483648, HasFence: true},
		"1 ok 9223372037\n":                       {ID: 1, Status: codec.OK, Fence: 9223372037, HasFence: true},
		"1 ok 18446744073709551615\n":             {ID: 1, Status: codec.OK, Fence: math.MaxUint64, HasFence: true},
		"1 value 7 1500ms aGVsbG8=\n":             {ID: 1, Status: codec.Found, Fence: 7, HasFence: true, Age: 1500 * time.Millisecond, Value: []byte("hello")},
		"1 value 0 0ms -\n":                       {ID: 1, Status: codec.Found, HasFence: true, Value: []byte{}},
		"1 value 18446744073709551615 9223372036854ms AAo=\n": {ID: 1, Status: codec.Found, Fence: math.MaxUint64, HasFence: true, Age: 9223372036854 * time.Millisecond, Value: []byte{0, '\n'}},
		"1 nil\n":               {ID: 1, Status: codec.None},
		"1 error_too_large\n":   {ID: 1, Status: codec.TooLarge},
		"1 error_full\n":        {ID: 1, Status: codec.Full},
		"1 error_unavailable\n": {ID: 1, Status: codec.Unavailable},
		"1 timeout " + strings.Repeat("n", 64) + " 1ms\n": {ID: 1, Status: codec.Timeout, Holder: strings.Repeat("n", 64), HeldFor: time.Millisecond},
		"1 canceled\n":                                                {ID: 1, Status: codec.Canceled},
		"1 error\n":                                                   {ID: 1, Status: codec.Failed},
		"1 error_max_locks\n":                                         {ID: 1, Status: codec.MaxLocks},
		"1 error_max_waiters\n":                                       {ID: 1, Status: codec.MaxWaiters},
		"1 error_limit_mismatch\n":                                    {ID: 1, Status: codec.LimitMismatch},
		"1 error_not_enqueued\n":                                      {ID: 1, Status: codec.NotQueued},
		"1 error_lease_expired\n":                                     {ID: 1, Status: codec.LeaseExpired},
		"1 error_draining\n":                                          {ID: 1, Status: codec.Draining},
		"1 error_session\n":                                           {ID: 1, Status: codec.ErrSession},
		"1 ok {\"connections\":1}\n":                                  {ID: 1, Status: codec.OK, JSON: []byte(`{"connections":1}`)},
		"0 lost schlüssel-鍵 " + hex32 + " expired\n":                  {Notice: codec.NoticeLost, Key: key, Token: tok, HasToken: true, Reason: codec.ReasonExpired},
		"0 lost schlüssel-鍵 " + hex32 + " revoked\n":                  {Notice: codec.NoticeLost, Key: key, Token: tok, HasToken: true, Reason: codec.ReasonRevoked},
		"0 lost schlüssel-鍵 " + hex32 + " released\n":                 {Notice: codec.NoticeLost, Key: key, Token: tok, HasToken: true, Reason: codec.ReasonReleased},
		"0 lost lost " + hex32 + " " + strings.Repeat("r", 64) + "\n": {Notice: codec.NoticeLost, Key: []byte("lost"), Token: tok, HasToken: true, Reason: strings.Repeat("r", 64)},
		"0 displaced\n":                                               {Notice: codec.NoticeDisplaced},
		"0 error\n":                                                   {Notice: codec.NoticeError},
	}
}

func frameAnswerReader(r io.Reader) *codec.AnswerReader {
	ar := codec.NewAnswerReader(r)
	ar.Frames()
	return ar
}

func TestFrameAnswersBothWays(t *testing.T) {
	for wire, want := range frameAnswers(t) {
		if got := string(codec.AppendAnswer(nil, &want)); got != wire {
			t.Errorf("AppendAnswer(%v) = %q, want %q", want, got, wire)
		}
		for _, end := range []string{"\n", "\r\n"} {
			var got codec.Answer
			if err := frameAnswerReader(strings.NewReader(strings.TrimSuffix(wire, "\n") + end)).Read(&got); err != nil {
				t.Errorf("Read(%q): %v", wire, err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("Read(%q) = %v, want %v", wire, got, want)
			}
		}
	}
}

func TestLeasesInFramesMayHaveAnyUnit(t *testing.T) {
	for text, want := range map[string]time.Duration{"33": 33 * time.Second, "33s": 33 * time.Second, "2m": 2 * time.Minute, "1h": time.Hour, "5us": 5 * time.Microsecond, "5ns": 5, "0": 0} {
		for _, line := range []string{"1 ok " + text, "1 ok " + hex32 + " " + text, "1 acquired " + hex32 + " " + text} {
			var a codec.Answer
			if err := frameAnswerReader(strings.NewReader(line + "\n")).Read(&a); err != nil || a.TTL != want || !a.HasTTL {
				t.Errorf("Read(%q) = %v, %v; want %v", line, a, err, want)
			}
		}
	}
}

func TestLeasesInFramesAreRoundedDown(t *testing.T) {
	for d, want := range map[time.Duration]string{-time.Second: "0", 999 * time.Microsecond: "0", 1999 * time.Microsecond: "1", 2 * time.Second: "2000", math.MaxInt64: "9223372036854"} {
		a := codec.Answer{ID: 1, Status: codec.OK, TTL: d, HasTTL: true}
		if got := string(codec.AppendAnswer(nil, &a)); got != "1 ok "+want+"ms\n" {
			t.Errorf("%v is %q", d, got)
		}
	}
}

func TestMalformedFrameAnswers(t *testing.T) {
	lines := []string{
		"", " ", "ok", "1", "1 ", "-1 ok", "+1 ok", "01 ok", "00 displaced", "x ok", "9223372036854775808 ok", "1\tok", " 1 ok", "1 OK", "1 ok x", "1 nil 5", "1 nils", "1 ok 18446744073709551616", "1 ok 123456789012345678901", "1 value", "1 value 7", "1 value 7 5ms", "1 value 7 YQ==", "1 value x 5ms YQ==", "1 value -7 5ms YQ==", "1 value 7ms 5ms YQ==", "1 value 18446744073709551616 5ms YQ==", "1 value 7 - YQ==", "1 value 7 -5ms YQ==", "1 value 7 9223372036855ms YQ==", "1 value 7 5ms YQ", "1 value 7 5ms YR==", "1 value 7 5ms Y\rQ==", "1 value 7 5ms YQ== x", "value 7 5ms YQ==", "1 error_full 5", "1 ok 5 YQ==", "1 ok -5ms", "1 ok 5.5s", "1 ok 5d", "1 ok 5 5", "1 ok 1h1m",
		"1 ok " + hex32, "1 ok " + hex32 + " x", "1 ok " + hex32 + " 5ms 5", "1 ok " + strings.ToUpper(hex32) + " 5ms", "1 ok 9223372036855ms", "1 acquired", "1 acquired 5ms", "1 acquired " + hex32, "1 queued", "1 queued -1", "1 queued x",
		"1 queued 2147483648", "1 queued 1 2", "1 timeout me x", "1 timeout me -5ms", "1 timeout me 5ms 5", "1 timeout me 5ms them", "1 timeout - -", "1 timeout m\x00e", "1 timeout ü", "1 timeout " + strings.Repeat("n", 65), "1 timeout me 9223372036855ms", "1 canceled 5", "1 cancelled", "1 error x", "1 errors", "1 displaced", "1 lost k " + hex32 + " expired", "1 ok 1 " + sessionHex,
		"0", "0 ", "0  ", "0 lost", "0 lost k", "0 lost k " + hex32, "0 lost k " + hex32 + " ", "0 lost k " + hex32[1:] + " expired", "0 lost k " + hex32 + " expired now", "0 lost " + hex32 + " expired", "0 lost \xff " + hex32 + " expired",
		"0 lost k\x00 " + hex32 + " expired", "0 lost k " + hex32 + " \x1b[2J", "0 lost k " + hex32 + " ü", "0 lost k " + hex32 + " " + strings.Repeat("r", 65), "0 lost " + strings.Repeat("k", 257) + " " + hex32 + " expired", "0 displaced now", "0 error now",
	}
	for line := range answers(t) {
		if !strings.HasPrefix(line, "1 ") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	for _, line := range lines {
		var a codec.Answer
		if err := frameAnswerReader(strings.NewReader(line + "\n")).Read(&a); err != codec.ErrMalformedAnswer {
			t.Errorf("Read(%q) = %v, %v; want ErrMalformedAnswer", line, a, err)
		}
		if !reflect.DeepEqual(a, codec.Answer{}) {
			t.Errorf("Read(%q) left %v behind", line, a)
		}
	}
}

func TestWhoHoldsMayBeSaidInPart(t *testing.T) {
	for line, want := range map[string]codec.Answer{
		"1 timeout -":        {ID: 1, Status: codec.Timeout},
		"1 timeout - 0s":     {ID: 1, Status: codec.Timeout},
		"1 timeout me":       {ID: 1, Status: codec.Timeout, Holder: "me"},
		"1 timeout me\t2m ":  {ID: 1, Status: codec.Timeout, Holder: "me", HeldFor: 2 * time.Minute},
		"1 timeout - 1500us": {ID: 1, Status: codec.Timeout, HeldFor: 1500 * time.Microsecond},
	} {
		var a codec.Answer
		err := frameAnswerReader(strings.NewReader(line + "\n")).Read(&a)
		if err != nil || !reflect.DeepEqual(a, want) {
			t.Errorf("Read(%q) = %v, %v; want %v", line, a, err, want)
		}
	}
}

// Who holds is for frames: clients of the base protocol know "timeout" alone.
func TestTheBaseProtocolDoesNotSayWhoHolds(t *testing.T) {
	a := codec.Answer{Status: codec.Timeout, Holder: "me", HeldFor: time.Second}
	if got := string(codec.AppendAnswer(nil, &a)); got != "timeout\n" {
		t.Errorf("it is %q", got)
	}
	if err := codec.NewAnswerReader(strings.NewReader("timeout me 5\n")).Read(&a); err != codec.ErrMalformedAnswer {
		t.Errorf("Read = %v, %v; want ErrMalformedAnswer", a, err)
	}
}

func TestUncheckedHoldersPanic(t *testing.T) {
	for _, name := range []string{"a b", "a\n2 ok", "ü", strings.Repeat("n", 65)} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("the holder %q was written", name)
				}
			}()
			codec.AppendAnswer(nil, &codec.Answer{ID: 1, Status: codec.Timeout, Holder: name})
		}()
	}
}

// Later servers say more; earlier clients must not mind.
func TestWhatLaterServersSay(t *testing.T) {
	for line, want := range map[string]codec.Answer{
		"0 weather sunny 20":    {Notice: codec.NoticeOther, Text: "weather sunny 20"},
		"0 lostt":               {Notice: codec.NoticeOther, Text: "lostt"},
		"0 ok":                  {Notice: codec.NoticeOther, Text: "ok"},
		"0 error_session":       {Notice: codec.NoticeOther, Text: "error_session"},
		"5 error_not_leader h":  {ID: 5, Status: codec.Failed, Text: "error_not_leader h"},
		"5 error_session claim": {ID: 5, Status: codec.ErrSession, Text: "error_session claim"},
	} {
		var a codec.Answer
		if err := frameAnswerReader(strings.NewReader(line + "\n")).Read(&a); err != nil || !reflect.DeepEqual(a, want) {
			t.Errorf("Read(%q) = %v, %v; want %v", line, a, err, want)
		}
	}
}

func TestFrameAnswerLimits(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	lost := " " + hex32 + " " + long(64) + "\n"
	for _, c := range []struct {
		name, wire string
		want       error
	}{
		{"the longest notice", "0 lost " + long(256) + lost, nil},
		{"512 bytes", "1 " + long(510) + "\n", codec.ErrMalformedAnswer},
		{"513 bytes", "1 " + long(511) + "\n", codec.ErrTooLong},
		{"an unknown notice of 513 bytes", "0 " + long(511) + "\n", codec.ErrTooLong},
		{"a report of 1 MiB", "123456 ok {" + long(1<<20) + "\n", nil},
		{"a value of 1 MiB", "123456 value 7 5ms " + long(1<<20) + "\n", nil},
		{"a value of 1 MiB that is none", "123456 value 7 5ms " + long(1<<20+1) + "\n", codec.ErrMalformedAnswer},
		{"a value as a notice", "0 value 7 5ms " + long(1<<20) + "\n", codec.ErrTooLong},
		{"a report as a notice", "0 ok {" + long(1<<20) + "\n", codec.ErrTooLong},
		{"a report without an ID", "ok {" + long(1<<20) + "\n", codec.ErrTooLong},
		{"nothing", "", io.EOF},
		{"half an answer", "1 ok", io.ErrUnexpectedEOF},
	} {
		for name, r := range map[string]io.Reader{"at once": strings.NewReader(c.wire), "byte by byte": iotest.OneByteReader(strings.NewReader(c.wire))} {
			var a codec.Answer
			if err := frameAnswerReader(r).Read(&a); err != c.want {
				t.Errorf("%s, %s: %v, want %v", c.name, name, err, c.want)
			}
		}
	}
}

func TestFrameAnswersOneByOne(t *testing.T) {
	wire := []byte("ok\nok 1 " + sessionHex + "\n")
	var want []codec.Answer
	for _, a := range frameAnswers(t) {
		wire = codec.AppendAnswer(wire, &a)
		want = append(want, a)
	}
	ar := codec.NewAnswerReader(iotest.HalfReader(bytes.NewReader(wire)))
	var a codec.Answer
	if err := ar.Read(&a); err != nil || a.Status != codec.OK { // that of auth
		t.Fatalf("Read = %v, %v", a, err)
	}
	if err := ar.ReadHello(&a); err != nil || a.Version != 1 {
		t.Fatalf("ReadHello = %v, %v", a, err)
	}
	ar.Frames()
	for i := range want {
		if err := ar.Read(&a); err != nil || !reflect.DeepEqual(a, want[i]) {
			t.Errorf("line %d = %v, %v; want %v", i, a, err, want[i])
		}
	}
	if err := ar.Read(&a); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func TestLostKeysAreCopies(t *testing.T) {
	ar := frameAnswerReader(strings.NewReader("0 lost aaaa " + hex32 + " expired\n0 lost bbbb " + hex32 + " revoked\n"))
	var a, b codec.Answer
	if ar.Read(&a) != nil || ar.Read(&b) != nil || string(a.Key) != "aaaa" || a.Reason != "expired" {
		t.Errorf("the first became %v, the second is %v", a, b)
	}
}

func TestReadingFrameAnswersAllocatesNothing(t *testing.T) {
	for wire, a := range frameAnswers(t) {
		if a.JSON != nil || a.Key != nil || a.Holder != "" || len(a.Value) > 0 {
			continue // they are copies
		}
		ar := frameAnswerReader(&loopReader{text: wire})
		var got codec.Answer
		var dst []byte
		n := testing.AllocsPerRun(1000, func() {
			if err := ar.Read(&got); err != nil {
				t.Fatalf("Read(%q): %v", wire, err)
			}
			dst = codec.AppendAnswer(dst[:0], &got)
		})
		if n != 0 {
			t.Errorf("reading and appending %q allocates %v times", wire, n)
		}
	}
}

func TestNamesOfNotices(t *testing.T) {
	for n := range codec.Notice(255) {
		if known := n >= codec.NoticeLost && n <= codec.NoticeOther; (n.String() != "invalid") != known {
			t.Errorf("Notice(%d) is %q", n, n)
		}
	}
}
