package codec_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/distributed-go/distributed/codec"
)

// answers are answers and how they look on the wire, both ways.
func answers(t testing.TB) map[string]codec.Answer {
	tok := token(t, hex32)
	return map[string]codec.Answer{
		"ok\n":                          {Status: codec.OK},
		"ok 0\n":                        {Status: codec.OK, HasTTL: true, HasCount: true},
		"ok 9223372036\n":               {Status: codec.OK, HasTTL: true, TTL: 9223372036 * time.Second}, // too large to be a count
		"ok 33\n":                       {Status: codec.OK, HasTTL: true, TTL: 33 * time.Second, Count: 33, HasCount: true},
		"ok " + hex32 + " 33\n":         {Status: codec.OK, HasToken: true, Token: tok, HasTTL: true, TTL: 33 * time.Second},
		"acquired " + hex32 + " 7\n":    {Status: codec.Acquired, HasToken: true, Token: tok, HasTTL: true, TTL: 7 * time.Second},
		"ok {\"connections\":1}\n":      {Status: codec.OK, JSON: []byte(`{"connections":1}`)},
		"queued\n":                      {Status: codec.Queued},
		"timeout\n":                     {Status: codec.Timeout},
		"error\n":                       {Status: codec.Failed},
		"error_auth\n":                  {Status: codec.ErrAuth},
		"error_max_locks\n":             {Status: codec.MaxLocks},
		"error_max_waiters\n":           {Status: codec.MaxWaiters},
		"error_limit_mismatch\n":        {Status: codec.LimitMismatch},
		"error_already_enqueued\n":      {Status: codec.AlreadyQueued},
		"error_not_enqueued\n":          {Status: codec.NotQueued},
		"error_lease_expired\n":         {Status: codec.LeaseExpired},
		"error_draining\n":              {Status: codec.Draining},
		"ok " + digits32 + " 1\n":       {Status: codec.OK, HasToken: true, Token: token(t, digits32), HasTTL: true, TTL: time.Second},
		"ok " + hex32 + " 9223372036\n": {Status: codec.OK, HasToken: true, Token: tok, HasTTL: true, TTL: 9223372036 * time.Second},
	}
}

// digits32 is a token that looks like a number.
const digits32 = "00000000000000000000000000000012"

func TestAnswersBothWays(t *testing.T) {
	for wire, want := range answers(t) {
		if got := string(codec.AppendAnswer(nil, &want)); got != wire {
			t.Errorf("AppendAnswer(%v) = %q, want %q", want, got, wire)
		}
		for _, end := range []string{"\n", "\r\n"} {
			var got codec.Answer
			if err := codec.NewAnswerReader(strings.NewReader(strings.TrimSuffix(wire, "\n") + end)).Read(&got); err != nil {
				t.Errorf("Read(%q): %v", wire, err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("Read(%q) = %v, want %v", wire, got, want)
			}
		}
	}
}

func TestErrorsOfOtherServersAreFailed(t *testing.T) {
	for wire, text := range map[string]string{
		"error_not_leader\n":               "error_not_leader",
		"error_not_leader 10.0.0.1:6388\n": "error_not_leader 10.0.0.1:6388",
		"error_\n":                         "error_",
	} {
		var a codec.Answer
		if err := codec.NewAnswerReader(strings.NewReader(wire)).Read(&a); err != nil || a.Status != codec.Failed || a.Text != text {
			t.Errorf("Read(%q) = %v, %v", wire, a, err)
		}
	}
}

func TestMalformedAnswers(t *testing.T) {
	for _, line := range []string{
		"", " ", "OK", "okay", "ok -1", "ok x", "ok 1 2", "ok 1.5", "ok " + hex32, "ok " + hex32 + " ", "ok " + hex32 + " x", "ok " + hex32 + " -1", "ok " + hex32 + " 1 2",
		"ok " + strings.ToUpper(hex32) + " 1", "ok " + hex32[1:] + " 1", "ok 9223372037", "ok " + digits32, "acquired", "acquired " + hex32, "acquired 33", "queued 1", "timeout 1",
		"error_auth now", "error x", "errors", "nil", "\x00", "ok\x00", "ok [1]", "HTTP/1.1 400 Bad Request",
	} {
		var a codec.Answer
		if err := codec.NewAnswerReader(strings.NewReader(line + "\n")).Read(&a); err != codec.ErrMalformedAnswer {
			t.Errorf("Read(%q) = %v, %v; want ErrMalformedAnswer", line, a, err)
		}
		if !reflect.DeepEqual(a, codec.Answer{}) {
			t.Errorf("Read(%q) left %v behind", line, a)
		}
	}
}

func TestAnswerLimits(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		name, wire string
		want       error
	}{
		{"512 bytes", long(512) + "\n", codec.ErrMalformedAnswer},
		{"513 bytes", long(513) + "\n", codec.ErrTooLong},
		{"an error of 513 bytes", "error_" + long(507) + "\n", codec.ErrTooLong},
		{"a report of 1 MiB", "ok {" + long(1<<20) + "\n", nil},
		{"nothing", "", io.EOF},
		{"half an answer", "ok", io.ErrUnexpectedEOF},
		{"half a report", "ok {" + long(1<<20), io.ErrUnexpectedEOF},
	} {
		var a codec.Answer
		if err := codec.NewAnswerReader(strings.NewReader(c.wire)).Read(&a); err != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestReportOverItsCap(t *testing.T) {
	r := io.MultiReader(strings.NewReader("ok {"), io.LimitReader(&loopReader{text: strings.Repeat("x", 1<<16)}, 65<<20))
	var a codec.Answer
	if err := codec.NewAnswerReader(r).Read(&a); err != codec.ErrTooLong {
		t.Errorf("Read = %v, want ErrTooLong", err)
	}
}

func TestReportIsACopy(t *testing.T) {
	ar := codec.NewAnswerReader(strings.NewReader("ok {\"a\":1}\nok {\"b\":2}\n"))
	var a, b codec.Answer
	if err := errors.Join(ar.Read(&a), ar.Read(&b)); err != nil {
		t.Fatal(err)
	}
	b.JSON[0] = 'x'
	if string(a.JSON) != `{"a":1}` {
		t.Errorf("the first report became %q", a.JSON)
	}
}

func TestAnswersOneByOne(t *testing.T) {
	var wire []byte
	var want []codec.Answer
	for _, a := range answers(t) {
		wire = codec.AppendAnswer(wire, &a)
		want = append(want, a)
	}
	ar := codec.NewAnswerReader(iotest.OneByteReader(bytes.NewReader(wire)))
	for i := range want {
		var a codec.Answer
		if err := ar.Read(&a); err != nil || !reflect.DeepEqual(a, want[i]) {
			t.Errorf("answer %d = %v, %v; want %v", i, a, err, want[i])
		}
	}
	if n := ar.Buffered(); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}

func TestAnswerReadGoesOnAfterATimeout(t *testing.T) {
	ar := codec.NewAnswerReader(io.MultiReader(strings.NewReader("ok "), &failOnce{err: os.ErrDeadlineExceeded}, strings.NewReader("33\ntimeout\n")))
	var a codec.Answer
	if err := ar.Read(&a); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("Read = %v, want a timeout", err)
	}
	if err := ar.Read(&a); err != nil || a.TTL != 33*time.Second {
		t.Errorf("Read = %v, %v", a, err)
	}
	if n := ar.Buffered(); n != len("timeout\n") {
		t.Errorf("Buffered = %d", n)
	}
}

func TestLeasesInAnswersAreRoundedDown(t *testing.T) {
	for d, want := range map[time.Duration]string{-time.Second: "0", 999 * time.Millisecond: "0", 1999 * time.Millisecond: "1", 2 * time.Second: "2"} {
		a := codec.Answer{Status: codec.OK, TTL: d, HasTTL: true}
		if got := string(codec.AppendAnswer(nil, &a)); got != "ok "+want+"\n" {
			t.Errorf("%v is %q", d, got)
		}
	}
}

func TestReadingAnswersAllocatesNothing(t *testing.T) {
	for wire, a := range answers(t) {
		if a.JSON != nil {
			continue
		}
		ar := codec.NewAnswerReader(&loopReader{text: wire})
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

func TestStatsBothWays(t *testing.T) {
	want := codec.ServerStats{
		Connections:    3,
		Locks:          []codec.LockStats{{Key: `quo"te<&>`, OwnerConnID: 7, LeaseExpiresInS: 12.5, Waiters: 2}, {Key: "v", Value: &codec.ValueStats{Bytes: 3, AgeS: 1.5}}},
		Semaphores:     []codec.SemaphoreStats{{Key: "鍵", Limit: 4, Holders: 3, Waiters: 1}},
		IdleLocks:      []codec.IdleStats{{Key: "idle", IdleS: 0.25}, {Key: "empty", Value: &codec.ValueStats{}}},
		IdleSemaphores: []codec.IdleStats{},
	}
	got, err := codec.ParseStats(want.JSON())
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := codec.ParseStats([]byte("{")); err == nil {
		t.Error("half a report was taken")
	}
}

func TestStatsOnTheWire(t *testing.T) {
	const empty = `{"connections":0,"locks":[],"semaphores":[],"idle_locks":[],"idle_semaphores":[]}`
	if got := string(codec.ServerStats{}.JSON()); got != empty {
		t.Errorf("empty report = %s, want %s", got, empty)
	}
	full := codec.ServerStats{
		Connections: 1,
		Locks:       []codec.LockStats{{Key: "a", OwnerConnID: 1, LeaseExpiresInS: 2, Waiters: 3, Owner: "me", HeldS: 1.5}, {Key: "b"}},
		Semaphores:  []codec.SemaphoreStats{{Key: "b", Limit: 4, Holders: 5, Waiters: 6, Owners: []codec.OwnerStats{{Name: "me", Weight: 2, HeldS: 0.25}}}},
		IdleLocks:   []codec.IdleStats{{Key: "c", IdleS: 7}}, IdleSemaphores: []codec.IdleStats{{Key: "d", IdleS: 8}},
	}
	const want = `{"connections":1,"locks":[{"key":"a","owner_conn_id":1,"lease_expires_in_s":2,"waiters":3,"owner":"me","held_s":1.5},{"key":"b","owner_conn_id":0,"lease_expires_in_s":0,"waiters":0,"held_s":0}],` +
		`"semaphores":[{"key":"b","limit":4,"holders":5,"waiters":6,"owners":[{"name":"me","weight":2,"held_s":0.25}]}],"idle_locks":[{"key":"c","idle_s":7}],"idle_semaphores":[{"key":"d","idle_s":8}]}`
	if got := string(full.JSON()); got != want {
		t.Errorf("report = %s, want %s", got, want)
	}
}

func TestNamesOfCommandsAndStatuses(t *testing.T) {
	for c := range codec.Command(255) {
		if known := c >= codec.Lock && c <= codec.Join; (c.String() != "invalid") != known {
			t.Errorf("Command(%d) is %q", c, c)
		}
	}
	for s := range codec.Status(255) {
		if known := s >= codec.OK && s <= codec.Unavailable; (s.String() != "invalid") != known {
			t.Errorf("Status(%d) is %q", s, s)
		}
	}
}
