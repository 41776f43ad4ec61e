package server

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/distributed-go/distributed/codec"
)

func found(id uint64, data []byte) *codec.Answer {
	return &codec.Answer{ID: id, Status: codec.Found, Fence: id + 7, HasFence: true, Age: time.Second, Value: data}
}

// Lines leave as they would if each had been made at once, whatever is in them, in
// parts that are not too long and count for all there is.
func TestOutlinesAreWhatWasAnswered(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test repeats itself
	data := make([]byte, 200<<10)
	for i := range data {
		data[i] = byte(random.Uint32()) //nolint:gosec // the low bits
	}
	for range 300 {
		var o outlines
		var want, got []byte
		for id := range 1 + random.Uint64N(20) {
			a := &codec.Answer{ID: id + 1, Status: codec.OK}
			if random.IntN(3) > 0 {
				from := random.IntN(3)
				a = found(id+1, data[from:from+random.IntN(2*copied)+random.IntN(2)*random.IntN(5*flushAt)])
			}
			o.add(a)
			want = codec.AppendAnswer(want, a)
		}
		if random.IntN(2) == 0 {
			o.before([]byte("first\n"))
			want = append([]byte("first\n"), want...)
		}
		size := o.size
		err := o.each(func(part []byte, n int) error {
			if len(part) > flushAt || len(part) == 0 {
				t.Errorf("a part of %d bytes", len(part))
			}
			size -= n
			got = append(got, part...)
			return nil
		})
		if err != nil || size != 0 || !bytes.Equal(got, want) {
			t.Fatalf("%v, %d bytes left over; wrote %d bytes, want %d, equal %t", err, size, len(got), len(want), bytes.Equal(got, want))
		}
	}
}

// A value that many wait for takes its memory once, and each of them little.
func TestManyAnswersWithOneValueTakeLittle(t *testing.T) {
	const answers = 5000
	data := make([]byte, 64<<10)
	var o outlines
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for id := range uint64(answers) {
		o.add(found(id+1, data))
	}
	runtime.ReadMemStats(&after)
	grew := after.TotalAlloc - before.TotalAlloc
	t.Logf("%d bytes were allocated, and they count for %d", grew, o.size)
	if grew > 400*answers || o.size > len(data)+100*answers {
		t.Errorf("%d answers with one value allocated %d bytes, and count for %d", answers, grew, o.size)
	}
	o = outlines{}
	for id := range uint64(10) {
		o.add(found(id+1, bytes.Clone(data)))
	}
	if o.size < 10*len(data) {
		t.Errorf("ten values of %d bytes count for %d", len(data), o.size)
	}
}

func TestOutlinesEndWithTheConnection(t *testing.T) {
	broken := errors.New("broken")
	for _, data := range [][]byte{nil, make([]byte, 100<<10)} {
		for after := range 3 {
			var o outlines
			for id := range uint64(2000) {
				o.add(found(id+1, data))
			}
			calls := 0
			err := o.each(func([]byte, int) error {
				if calls++; calls > after {
					return broken
				}
				return nil
			})
			if err != broken || calls != after+1 {
				t.Errorf("%v after %d writes, want %d", err, calls, after+1)
			}
		}
	}
}
