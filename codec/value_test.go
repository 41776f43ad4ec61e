package codec_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/distributed-go/distributed/codec"
)

func TestTheLargestValueFitsItsCap(t *testing.T) {
	for _, size := range []int{0, 1, 2, 3, 1000, codec.DefaultValue, 1 << 20} {
		want := codec.Request{ID: codec.MaxID, Command: codec.Put, Key: []byte(strings.Repeat("k", codec.MaxLine)), Keep: codec.AnyAge, Value: bytes.Repeat([]byte{0xfb}, size)}
		rr := codec.NewRequestReader(bytes.NewReader(codec.AppendRequest(nil, &want)))
		rr.Frames(codec.ArgumentFor(size))
		var got codec.Request
		if err := rr.Read(&got); err != nil || !bytes.Equal(got.Value, want.Value) {
			t.Errorf("%d bytes became %d: %v", size, len(got.Value), err)
		}
	}
	if codec.ArgumentFor(codec.DefaultValue) != codec.MaxArgument {
		t.Errorf("the default cap is %d, and %d by ArgumentFor", codec.MaxArgument, codec.ArgumentFor(codec.DefaultValue))
	}
	answer := codec.Answer{ID: codec.MaxID, Status: codec.Found, Fence: 1<<64 - 1, Age: codec.AnyAge, Value: make([]byte, codec.MaxValue)}
	if n := len(codec.AppendAnswer(nil, &answer)); n > codec.MaxStats {
		t.Errorf("an answer with the largest value that a server takes has %d bytes, %d are read", n, codec.MaxStats)
	}
}

func TestReadValuesAreCopies(t *testing.T) {
	ar := frameAnswerReader(strings.NewReader("1 value 1 0ms YWFh\n2 value 2 0ms YmJi\n"))
	var a, b codec.Answer
	if ar.Read(&a) != nil || ar.Read(&b) != nil || string(a.Value) != "aaa" || string(b.Value) != "bbb" {
		t.Errorf("the first became %q, the second is %q", a.Value, b.Value)
	}
}

func TestWhatIsOfferedOfValues(t *testing.T) {
	for offers, want := range map[string]int{
		"": 0, "durable": 0, "max-value=65536 durable": 65536, "durable grace=5 max-value=1": 1, "max-value": 0,
		"max-value=": 0, "max-value=x": 0, "max-value=-1": 0, "max-value=64KiB": 0, "max-value=2147483648": 0, "max-value=0": 0,
	} {
		a := codec.Answer{Version: 1, Offers: []byte(offers)}
		if got := a.MaxValue(); got != want {
			t.Errorf("%q offers values of %d bytes, want %d", offers, got, want)
		}
	}
}

// A value in a log is nobody's business, and may be large.
func TestValuesAreNotPrinted(t *testing.T) {
	r := codec.Request{ID: 1, Command: codec.Put, Key: []byte("k"), Value: []byte("secret")}
	a := codec.Answer{ID: 1, Status: codec.Found, Value: []byte("secret")}
	for _, text := range []string{fmt.Sprintf("%v", r), fmt.Sprintf("%+v", a), fmt.Sprintf("%#v", r), fmt.Sprintf("%s", a)} {
		if strings.Contains(text, "secret") || !strings.Contains(text, "6 bytes") {
			t.Errorf("printed %s", text)
		}
	}
}

func TestAppendingAValueAllocatesLittle(t *testing.T) {
	value := make([]byte, codec.DefaultValue)
	n := testing.AllocsPerRun(100, func() {
		codec.AppendRequest(nil, &codec.Request{ID: 1, Command: codec.Put, Key: []byte("k"), Value: value})
		codec.AppendAnswer(nil, &codec.Answer{ID: 1, Status: codec.Found, Value: value})
	})
	// The first of each is for what stands before, and under the race detector a
	// slice grows by way of another one.
	if n > 6 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkPut(b *testing.B) {
	for _, size := range []int{16, codec.DefaultValue} {
		b.Run(map[bool]string{true: "64KiB", false: "16B"}[size > 16], func(b *testing.B) {
			wire := codec.AppendRequest(nil, &codec.Request{ID: 1, Command: codec.Put, Key: []byte("k"), Value: make([]byte, size)})
			rr := frameReader(&loopReader{text: string(wire)})
			b.SetBytes(int64(size))
			b.ReportAllocs()
			var r codec.Request
			for b.Loop() {
				if err := rr.Read(&r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
