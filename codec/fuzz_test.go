package codec_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/distributed-go/distributed/codec"
)

// recorded returns the requests and the answers of the recorded exchanges.
func recorded(f *testing.F) (requests, answers []string) {
	f.Helper()
	files, err := filepath.Glob("../server/testdata/conformance/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatalf("no recorded exchanges: %v", err)
	}
	unescape := strings.NewReplacer(`\n`, "\n", `\r`, "\r", `\t`, "\t", `\0`, "\x00", "$T1", hex32, "$T2", hex32, "$T3", hex32, "~", "", "*", "{}")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			line = unescape.Replace(strings.TrimSuffix(line, "\n"))
			if _, request, ok := strings.Cut(line, "> "); ok {
				requests = append(requests, strings.ReplaceAll(request, "|", "\n")+"\n")
			} else if _, raw, ok := strings.Cut(line, ">raw "); ok {
				requests = append(requests, raw)
			} else if _, answer, ok := strings.Cut(line, "< "); ok {
				answers = append(answers, answer+"\n")
			}
		}
	}
	if len(requests) < 100 || len(answers) < 100 {
		f.Fatalf("only %d requests and %d answers recorded", len(requests), len(answers))
	}
	return requests, answers
}

// outcome is what one call of Read returned, with everything copied.
type outcome struct {
	value any
	err   error
}

// FuzzRequests reads arbitrary bytes in two ways of slicing, which must agree,
// and writes what it understood, which must read the same again.
func FuzzRequests(f *testing.F) {
	seeds, _ := recorded(f)
	for _, s := range append(seeds, malformed()...) {
		f.Add([]byte(s))
	}
	for s := range requests(f) {
		f.Add([]byte(s))
	}
	for _, s := range malformedHellos() {
		f.Add([]byte(s))
	}
	for s := range greetings(f) {
		f.Add([]byte("hello\n_\n" + s + "\n"))
	}
	f.Add([]byte(strings.Join(seeds, "")))
	f.Add([]byte("auth\n_\n" + strings.Repeat("x", 5000) + "\nping\n_\n_\n"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		whole := readRequests(t, codec.NewRequestReader(bytes.NewReader(wire)), len(wire))
		sliced := readRequests(t, codec.NewRequestReader(iotest.DataErrReader(iotest.OneByteReader(bytes.NewReader(wire)))), len(wire))
		if !reflect.DeepEqual(whole, sliced) {
			t.Fatalf("slicing matters:\n%v\n%v", whole, sliced)
		}
		for _, o := range whole {
			if r, ok := o.value.(codec.Request); ok {
				writeAndReadBack(t, r)
			}
		}
	})
}

func readRequests(t *testing.T, rr *codec.RequestReader, size int) []outcome {
	var got []outcome
	for {
		var req codec.Request
		err := rr.Read(&req)
		if err == nil {
			req.Key, req.Secret, req.Value = bytes.Clone(req.Key), bytes.Clone(req.Secret), bytes.Clone(req.Value)
			got = append(got, outcome{value: req})
			continue
		}
		got = append(got, outcome{value: req.ID, err: err})
		if err != codec.ErrMalformed {
			return got
		}
		if n := codec.BufferSize(rr); n > 2*size+8<<10 {
			t.Fatalf("a buffer of %d bytes for an input of %d", n, size)
		}
	}
}

func writeAndReadBack(t *testing.T, want codec.Request) {
	wire := codec.AppendRequest(nil, &want)
	var got codec.Request
	if err := codec.NewRequestReader(bytes.NewReader(wire)).Read(&got); err != nil || !equalRequests(got, want) {
		t.Fatalf("%v became %q and then %v, %v", want, wire, got, err)
	}
	if want.Command <= codec.Wait || want.Command == codec.Force {
		if err := codec.CheckKey(string(want.Key)); err != nil {
			t.Fatalf("read the key %q: %v", want.Key, err)
		}
	}
}

// FuzzAnswers does for answers what FuzzRequests does for requests.
func FuzzAnswers(f *testing.F) {
	_, seeds := recorded(f)
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	for s := range answers(f) {
		f.Add([]byte(s))
	}
	f.Add([]byte(strings.Join(seeds, "")))
	f.Add([]byte("error_not_leader 1.2.3.4:6388\nok {" + strings.Repeat("x", 2000) + "}\n"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		whole := readAnswers(codec.NewAnswerReader(bytes.NewReader(wire)))
		sliced := readAnswers(codec.NewAnswerReader(iotest.DataErrReader(iotest.OneByteReader(bytes.NewReader(wire)))))
		if !reflect.DeepEqual(whole, sliced) {
			t.Fatalf("slicing matters:\n%v\n%v", whole, sliced)
		}
		for _, o := range whole {
			a, ok := o.value.(codec.Answer)
			if !ok || o.err != nil || a.Text != "" {
				continue
			}
			var again codec.Answer
			line := codec.AppendAnswer(nil, &a)
			if err := codec.NewAnswerReader(bytes.NewReader(line)).Read(&again); err != nil || !reflect.DeepEqual(again, a) {
				t.Fatalf("%v became %q and then %v, %v", a, line, again, err)
			}
		}
	})
}

func readAnswers(ar *codec.AnswerReader) []outcome {
	var got []outcome
	for {
		var a codec.Answer
		err := ar.Read(&a)
		if err != nil && err != codec.ErrMalformedAnswer {
			return append(got, outcome{err: err})
		}
		got = append(got, outcome{value: a, err: err})
	}
}

// FuzzKey holds CheckKey, the writer and the reader to one rule.
func FuzzKey(f *testing.F) {
	for _, key := range []string{"k", "", "a b", "a\nb", "a\rb", "schlüssel-鍵", "\u2028", "\u0085", "\xff", "../", "\x1b[2J", strings.Repeat("x", 257)} {
		f.Add(key, "secret")
		f.Add("k", key)
	}
	f.Fuzz(func(t *testing.T, key, secret string) {
		if codec.CheckKey(key) == nil {
			writeAndReadBack(t, codec.Request{Command: codec.Lock, Key: []byte(key)})
		} else if !strings.ContainsAny(key, "\n\r") { // which would end the line
			var r codec.Request
			if err := codec.NewRequestReader(strings.NewReader("l\n" + key + "\n0\n")).Read(&r); err == nil {
				t.Fatalf("the reader takes the key %q", key)
			}
		}
		if codec.CheckSecret([]byte(secret)) == nil {
			writeAndReadBack(t, codec.Request{Command: codec.Auth, Secret: []byte(secret)})
		}
	})
}
