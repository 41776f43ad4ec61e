package codec_test

import (
	"bytes"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/distributed-go/distributed/codec"
)

// FuzzFrames does for frames what FuzzRequests does for the base protocol: two
// ways of slicing must agree, and what was understood must, when it is written,
// read the same again.
func FuzzFrames(f *testing.F) {
	seeds, _ := recorded(f)
	var all strings.Builder
	for s := range frames(f) {
		f.Add([]byte(s))
		all.WriteString(s)
	}
	f.Add([]byte(all.String()))
	for _, s := range malformedFrames() {
		f.Add([]byte(s))
	}
	for _, id := range malformedIDs {
		f.Add([]byte(id + " l\nk\n0\n"))
	}
	for _, s := range append(seeds, malformed()...) {
		f.Add([]byte("42 " + s))
	}
	f.Add([]byte("1 put\nk\n" + strings.Repeat("x", 5000) + "\n2 ping\n_\n_\n"))
	f.Add([]byte("1 put\nk\n" + hex32 + " 1500us " + strings.Repeat("QUJD", 1250) + "\n2 put\nk\n" + hex32 + " 0 " + strings.Repeat("QUJD", 250) + "YR==\n3 join\nk\n- 0 999ns\n"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		whole := readRequests(t, frameReader(bytes.NewReader(wire)), len(wire))
		sliced := readRequests(t, frameReader(iotest.DataErrReader(iotest.OneByteReader(bytes.NewReader(wire)))), len(wire))
		if !reflect.DeepEqual(whole, sliced) {
			t.Fatalf("slicing matters:\n%v\n%v", whole, sliced)
		}
		for _, o := range whole {
			if r, ok := o.value.(codec.Request); ok {
				frameThereAndBack(t, r)
			}
		}
	})
}

// frameThereAndBack writes a request that was read, and reads it.
func frameThereAndBack(t *testing.T, r codec.Request) {
	t.Helper()
	if r.ID == 0 || r.ID > codec.MaxID {
		t.Fatalf("read the ID %d", r.ID)
	}
	wire := codec.AppendRequest(nil, &r)
	r.Timeout, r.TTL, r.Keep = toMillis(r.Timeout), toMillis(r.TTL), toMillis(r.Keep)
	r.Fresh = toFresh(r.Fresh)
	var got codec.Request
	if err := frameReader(bytes.NewReader(wire)).Read(&got); err != nil || !equalRequests(got, r) {
		t.Fatalf("%v became %q and then %v, %v", r, wire, got, err)
	}
}

// toMillis rounds up to what a frame can say.
func toMillis(d time.Duration) time.Duration {
	const longest = math.MaxInt64 / time.Millisecond * time.Millisecond
	if d%time.Second == 0 || d >= longest {
		return min(d, longest)
	}
	return (d + time.Millisecond - 1) / time.Millisecond * time.Millisecond
}

// toFresh does so for what says AnyAge too.
func toFresh(d time.Duration) time.Duration {
	if d == codec.AnyAge {
		return d
	}
	return toMillis(max(d, 0))
}

// FuzzFrameFields writes requests from arbitrary fields, where FuzzFrames has
// only those that can be spelled: each must read as it was written.
func FuzzFrameFields(f *testing.F) {
	f.Add(uint64(1), uint8(codec.Lock), false, "k", int64(0), int64(0), 0, 0, 0, uint64(1), []byte(hex32))
	f.Add(uint64(codec.MaxID), uint8(codec.Lock), true, "schlüssel-鍵", int64(-1), int64(1500*time.Millisecond), 3, 2, 5, uint64(codec.MaxID), []byte(hex32))
	f.Add(uint64(7), uint8(codec.Enqueue), true, "k", int64(1), int64(0), 3, 0, 1, uint64(1), []byte(hex32))
	f.Add(uint64(7), uint8(codec.Wait), false, "k", int64(math.MaxInt64), int64(math.MaxInt64), 1, 1, 1, uint64(6), []byte(hex32))
	f.Add(uint64(8), uint8(codec.Force), true, "k", int64(0), int64(0), 0, 0, 0, uint64(1), []byte(hex32))
	f.Add(uint64(9), uint8(codec.Claim), false, "k", int64(0), int64(time.Minute), 5, 3, 0, uint64(1), []byte(hex32))
	f.Add(uint64(9), uint8(codec.Put), false, "k", int64(0), int64(0), 0, 0, 0, uint64(1), []byte(hex32))
	f.Add(uint64(9), uint8(codec.Put), false, "k", int64(5), int64(time.Minute), 0, 0, 0, uint64(1), []byte{})
	f.Add(uint64(9), uint8(codec.Join), false, "k", int64(math.MaxInt64), int64(0), 0, 0, 3, uint64(1), []byte(hex32))
	f.Fuzz(func(t *testing.T, id uint64, command uint8, semaphore bool, key string, timeout, ttl int64, limit, weight, fences int, ticket uint64, tok []byte) {
		r := codec.Request{
			ID: id%codec.MaxID + 1, Command: codec.Command(command % 20), Semaphore: semaphore, Key: []byte(key), Timeout: time.Duration(timeout), NoTimeout: timeout < 0,
			TTL: time.Duration(max(ttl, 0)), Limit: limit&math.MaxInt32 | 1, Weight: weight & math.MaxInt32, Fences: fences & math.MaxInt32, Ticket: ticket%codec.MaxID + 1,
		}
		copy(r.Token[:], tok)
		r.Value, r.Keep, r.Fresh, r.Volatile = tok, r.TTL, r.Timeout, semaphore
		if codec.CheckKey(key) != nil || len(tok) > codec.DefaultValue || r.Command < codec.Lock || r.Command > codec.Join || r.Command == codec.Auth || r.Command == codec.Hello {
			return
		}
		if r.Command == codec.Claim {
			r.TTL, r.Weight = max(r.TTL, time.Millisecond), r.Weight|1
		}
		wire := codec.AppendRequest(nil, &r)
		if strings.Count(string(wire), "\n") != 3 {
			t.Fatalf("%v became %q", r, wire)
		}
		var got codec.Request
		if err := frameReader(bytes.NewReader(wire)).Read(&got); err != nil || !equalRequests(got, only(r)) {
			t.Fatalf("%v became %q and then %v, %v", r, wire, got, err)
		}
	})
}

// only returns the request with those fields alone that its command has, as
// they go over the wire.
func only(r codec.Request) codec.Request {
	o := codec.Request{ID: r.ID, Command: r.Command}
	if r.Command <= codec.Wait || r.Command == codec.Force {
		o.Semaphore, o.Key = r.Semaphore, r.Key
	}
	switch r.Command {
	case codec.Lock, codec.Wait:
		if o.NoTimeout = r.NoTimeout; !o.NoTimeout {
			o.Timeout = toMillis(r.Timeout)
		}
	case codec.Release, codec.Renew:
		o.Token = r.Token
	case codec.Claim:
		o.Key, o.Token, o.TTL, o.Limit, o.Weight = r.Key, r.Token, toMillis(r.TTL), r.Limit, r.Weight
	case codec.Put:
		o.Key, o.Token, o.Keep, o.Value, o.Volatile = r.Key, r.Token, toMillis(r.Keep), r.Value, r.Volatile
	case codec.Get:
		o.Key = r.Key
	case codec.Delete:
		o.Key, o.Token = r.Key, r.Token
	case codec.Join:
		o.Key, o.TTL, o.Fresh, o.Fences = r.Key, toMillis(r.TTL), toFresh(r.Fresh), r.Fences
		if o.NoTimeout = r.NoTimeout; !o.NoTimeout {
			o.Timeout = toMillis(r.Timeout)
		}
	}
	switch r.Command {
	case codec.Lock, codec.Enqueue:
		o.Fences = r.Fences
		if r.Semaphore {
			o.Limit, o.Weight = r.Limit, r.Weight
		}
		fallthrough
	case codec.Renew:
		o.TTL = toMillis(r.TTL)
	case codec.Wait, codec.Cancel:
		o.Ticket = r.Ticket
	}
	return o
}

// FuzzFrameAnswers does for the lines of a server what FuzzFrames does for
// requests.
func FuzzFrameAnswers(f *testing.F) {
	_, seeds := recorded(f)
	var all strings.Builder
	for s := range frameAnswers(f) {
		f.Add([]byte(s))
		all.WriteString(s)
	}
	f.Add([]byte(all.String()))
	for _, s := range seeds {
		f.Add([]byte("42 " + s))
	}
	for _, s := range []string{"0 weather sunny\n", "0 \n", "0\n", "1 error_session claim\n", "1 ok {" + strings.Repeat("x", 2000) + "}\n", "1 ok 1h\n", "1 ok 2147483648\n", "1 timeout me\n", "1 timeout - 7\n", "1 timeout me 1500us\n", "1 timeout me 5 5\n", "1 ok 18446744073709551615\n", "1 ok 18446744073709551616\n", "1 value 0 1500us -\n", "1 value 1 1 " + strings.Repeat("QUJD", 500) + "\n", "1 value 1 1 YR==\n", "0 lost k " + hex32 + " \x00\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		whole := readAnswers(frameAnswerReader(bytes.NewReader(wire)))
		sliced := readAnswers(frameAnswerReader(iotest.DataErrReader(iotest.OneByteReader(bytes.NewReader(wire)))))
		if !reflect.DeepEqual(whole, sliced) {
			t.Fatalf("slicing matters:\n%v\n%v", whole, sliced)
		}
		for _, o := range whole {
			a, ok := o.value.(codec.Answer)
			if !ok || o.err != nil || a.Text != "" {
				continue
			}
			if (a.ID == 0) == (a.Notice == 0) || (a.Status == 0) == (a.Notice == 0) {
				t.Fatalf("%v is neither answer nor notice", a)
			}
			line := codec.AppendAnswer(nil, &a)
			a.TTL, a.HeldFor, a.Age = a.TTL.Truncate(time.Millisecond), a.HeldFor.Truncate(time.Millisecond), a.Age.Truncate(time.Millisecond)
			var again codec.Answer
			if err := frameAnswerReader(bytes.NewReader(line)).Read(&again); err != nil || !reflect.DeepEqual(again, a) {
				t.Fatalf("%v became %q and then %v, %v", a, line, again, err)
			}
		}
	})
}

// FuzzWelcome does the same for the answer to Hello.
func FuzzWelcome(f *testing.F) {
	for s := range welcomes(f) {
		f.Add([]byte(s))
	}
	for _, s := range []string{"ok\n", "ok 33\n", "error_session claim\n", "error_session \t claim \n", "error_session claims\n", "ok 1 " + sessionHex + "  a=b \t c\n", "ok 1 " + sessionHex + "\x00\n", "ok 01 " + sessionHex + "\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		var a, again codec.Answer
		if codec.NewAnswerReader(bytes.NewReader(wire)).ReadHello(&a) != nil {
			if !reflect.DeepEqual(a, codec.Answer{}) {
				t.Fatalf("%q left %v behind", wire, a)
			}
			return
		}
		if (a.Status == codec.OK) != (a.Version > 0) {
			t.Fatalf("%q is %v", wire, a)
		}
		if a.Text != "" {
			return
		}
		line := codec.AppendAnswer(nil, &a)
		if err := codec.NewAnswerReader(bytes.NewReader(line)).ReadHello(&again); err != nil || !reflect.DeepEqual(again, a) {
			t.Fatalf("%v became %q and then %v, %v", a, line, again, err)
		}
	})
}
