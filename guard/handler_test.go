package guard

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/distributed-go/distributed/internal/assert"
)

// serve sends a request with a header, if it is not empty, and returns the answer.
func serve(ctx context.Context, h http.Handler, method, header string) *http.Response {
	r := httptest.NewRequestWithContext(ctx, method, "/", nil)
	if header != "" {
		r.Header.Set(Header, header)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	answer := w.Result()
	answer.Request = r
	return answer
}

func TestHandlerLetsThroughOrRefuses(t *testing.T) {
	var got claim
	var with bool
	h := &Handler{
		Next: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			got.key, got.fence, with = FromContext(r.Context())
		}),
		Key: func(*http.Request) string { return "a/b" },
	}
	for _, c := range []struct {
		method, header string
		status         int
		fence          uint64 // 0: Next gets none
	}{
		{"PUT", "key=a%2Fb; fence=7", 200, 7},
		{"PUT", "key=a%2Fb; fence=7", 200, 7},
		{"PUT", "key=a/b;fence=8", 200, 8},
		{"PUT", "key=a%2Fb; fence=7", 412, 0},
		{"GET", "key=a%2Fb; fence=7", 412, 0},
		{"GET", "", 200, 0},
		{"HEAD", "", 200, 0},
		{"PUT", "", 428, 0},
		{"DELETE", "", 428, 0},
		{"PUT", "key=b; fence=9", 400, 0},
		{"PUT", "key=a%2Fb; fence=0", 400, 0},
		{"PUT", "fence=9", 400, 0},
		{"GET", "nonsense", 400, 0},
	} {
		got, with = claim{}, false
		answer := serve(t.Context(), h, c.method, c.header)
		if answer.StatusCode != c.status || with != (c.fence != 0) || got.fence != c.fence {
			t.Errorf("%s %q: status %d, fence %v %v, want %d, %d", c.method, c.header, answer.StatusCode, got, with, c.status, c.fence)
		}
	}
}

func TestARefusalSaysWhy(t *testing.T) {
	h := &Handler{Next: http.NotFoundHandler()}
	assert.Exactly(t, "first", serve(t.Context(), h, "PUT", "key=a; fence=1785715200000000008").StatusCode, 404)
	answer := serve(t.Context(), h, "PUT", "key=a; fence=7")
	assert.Exactly(t, "type", answer.Header.Get("Content-Type"), "application/problem+json")
	var body map[string]any
	assert.Sure(t, json.NewDecoder(answer.Body).Decode(&body))
	assert.Exactly(t, "seen", body["seen"], any("1785715200000000008"))
	assert.Exactly(t, "fence", body["fence"], any("7"))
	var stale *StaleError
	if err := ResponseError(answer); !errors.As(err, &stale) || *stale != (StaleError{Key: "a", Fence: 7, Seen: 1785715200000000008}) {
		t.Errorf("the error is %v", err)
	}
	assert.Matches(t, ResponseError(serve(t.Context(), h, "PUT", "")), ErrNoFence)
	assert.Sure(t, ResponseError(serve(t.Context(), h, "PUT", "nonsense")))
	assert.Sure(t, ResponseError(&http.Response{StatusCode: 412})) // somebody else's If-Match
}

func TestAStoreThatFailsIsNotLetThrough(t *testing.T) {
	secret := errors.New("dial db.internal")
	h := &Handler{Next: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("let through") }), Store: failing{load: secret}}
	answer := serve(t.Context(), h, "PUT", "key=a; fence=7")
	body, err := io.ReadAll(answer.Body)
	assert.Sure(t, err)
	if answer.StatusCode != 503 || strings.Contains(string(body), "db.internal") {
		t.Errorf("status %d, body %s", answer.StatusCode, body)
	}
}

func TestALaterHolderWaitsForAnEarlierRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block, began := make(chan struct{}), make(chan uint64, 9)
		h := &Handler{Next: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, fence, _ := FromContext(r.Context())
			began <- fence
			if fence == 7 {
				<-block
			}
		})}
		status := make(chan int, 9)
		send := func(ctx context.Context, header string) {
			go func() { status <- serve(ctx, h, "PUT", header).StatusCode }()
			synctest.Wait()
		}
		send(t.Context(), "key=a; fence=7")
		send(t.Context(), "key=a; fence=7") // the same holder need not wait
		send(t.Context(), "key=b; fence=1") // nor another key
		assert.Exactly(t, "begun", len(began), 3)
		assert.Exactly(t, "answers", len(status), 1)

		ctx, cancel := context.WithCancel(t.Context())
		send(ctx, "key=a; fence=8")
		send(t.Context(), "key=a; fence=9")
		assert.Exactly(t, "begun while 7 is served", len(began), 3)
		send(t.Context(), "key=a; fence=7") // refused at once: 9 has come
		<-status
		assert.Exactly(t, "late", <-status, 412)
		cancel()
		assert.Exactly(t, "cancelled", <-status, 503)
		close(block)
		synctest.Wait()
		assert.Exactly(t, "begun afterwards", len(began), 4)
		assert.Exactly(t, "keys left in the gate", len(h.gate.keys), 0)
	})
}

func TestAPanicEndsTheTurn(t *testing.T) {
	h := &Handler{Next: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })}
	func() {
		defer func() { _ = recover() }()
		serve(t.Context(), h, "PUT", "key=a; fence=7")
	}()
	assert.Exactly(t, "keys left in the gate", len(h.gate.keys), 0)
}

func TestTransportSendsTheFence(t *testing.T) {
	server := httptest.NewServer(&Handler{Next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, fence, _ := FromContext(r.Context())
		_, _ = io.WriteString(w, formatHeader(key, fence))
	})})
	defer server.Close()
	put := func(l Lease) (*http.Request, *http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL, strings.NewReader("body"))
		assert.Sure(t, err)
		answer, err := (&http.Client{Transport: &Transport{Lease: l}}).Do(r)
		return r, answer, err
	}
	r, answer, err := put(hold{"a key; fence=9", 8})
	assert.Sure(t, err)
	body, err := io.ReadAll(answer.Body)
	assert.Sure(t, errors.Join(err, answer.Body.Close()))
	assert.Exactly(t, "what arrived", string(body), "key=a+key%3B+fence%3D9; fence=8")
	assert.Exactly(t, "headers of the caller's request", len(r.Header), 0)

	_, answer, err = put(hold{"a key; fence=9", 7})
	assert.Sure(t, err)
	assert.Matches(t, ResponseError(answer), ErrStale)
	assert.Sure(t, answer.Body.Close())

	for _, none := range []Lease{hold{"a", 0}, nil} {
		if _, answer, err = put(none); err == nil {
			assert.Sure(t, answer.Body.Close())
		}
		assert.Matches(t, err, ErrNoFence)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestSetHeaderReplacesAnOldFence(t *testing.T) {
	r := httptest.NewRequest(http.MethodPut, "/", nil)
	assert.Sure(t, SetHeader(r, hold{"a", 7}))
	assert.Sure(t, SetHeader(r, hold{"a", 8}))
	assert.Exactly(t, "header", strings.Join(r.Header.Values(Header), "|"), "key=a; fence=8")
	assert.Matches(t, SetHeader(r, hold{"a", 0}), ErrNoFence)
	assert.Exactly(t, "headers", len(r.Header.Values(Header)), 0)
}

func TestTwoHeadersAreRefused(t *testing.T) {
	h := http.Header{Header: {"key=a; fence=7", "key=a; fence=8"}}
	if _, _, err := parseHeader(h); err == nil || errors.Is(err, ErrNoFence) {
		t.Errorf("the error is %v", err)
	}
}

func FuzzHeader(f *testing.F) {
	for _, v := range []string{
		"key=a; fence=7", "key=a%2Fb;fence=18446744073709551615", "key=a; fence=18446744073709551616", "key=; fence=1",
		"key=%zz; fence=1", "fence=1; key=a", "key=a; fence=+1", "key=a; fence=-1", "key=a; fence=1; x=2", ";", "",
	} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) {
		key, fence, err := parseHeader(http.Header{Header: {v}})
		if err != nil {
			return
		}
		again, number, err := parseHeader(http.Header{Header: {formatHeader(key, fence)}})
		if key == "" || fence == 0 || again != key || number != fence {
			t.Errorf("%q is %q %d, and then %q %d, %v", v, key, fence, again, number, err)
		}
	})
}
