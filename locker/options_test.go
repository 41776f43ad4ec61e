package locker_test

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

// TestNewPanicsWithoutABackend: a forgotten assignment is no default.
func TestNewPanicsWithoutABackend(t *testing.T) {
	defer func() {
		if r := recover(); r == nil {
			t.Error("New(nil) returned")
		}
	}()
	locker.New(nil)
}

// TestOptions: bad values are refused by the first acquisition, with a text that
// names the value and what would be right, and nothing is sent.
func TestOptions(t *testing.T) {
	for _, c := range []struct {
		name string
		o    locker.Option
		want string // of the error; empty for none
	}{
		{"TTL", locker.WithTTL(-1), "WithTTL(-1ns): must not be negative"},
		{"least TTL", locker.WithTTL(math.MinInt64), "WithTTL(-2562047h47m16.854775808s)"},
		{"wait", locker.WithWait(-time.Second), "WithWait(-1s): must not be negative"},
		{"hold", locker.WithMaxHold(-time.Second), "WithMaxHold(-1s): must not be negative"},
		{"margin", locker.WithStopMargin(-time.Second), "WithStopMargin(-1s): must not be negative"},
		{"wide margin", locker.WithStopMargin(5*time.Second + 1), "WithStopMargin(5.000000001s): must be at most half the TTL of 10s"},
		{"widest margin", locker.WithStopMargin(5 * time.Second), ""},
		{"ratio 0", locker.WithRenewRatio(0), "WithRenewRatio(0): must be from 0.01 to 0.5"},
		{"ratio -1", locker.WithRenewRatio(-1), "WithRenewRatio(-1)"},
		{"ratio 0.51", locker.WithRenewRatio(0.51), "WithRenewRatio(0.51)"},
		{"ratio 0.5", locker.WithRenewRatio(0.5), ""},
		{"ratio 0.009", locker.WithRenewRatio(0.009), "WithRenewRatio(0.009)"},
		{"ratio 0.01", locker.WithRenewRatio(0.01), ""},
		{"least ratio", locker.WithRenewRatio(math.SmallestNonzeroFloat64), "WithRenewRatio(5e-324)"},
		{"ratio NaN", locker.WithRenewRatio(math.NaN()), "WithRenewRatio(NaN)"},
		{"ratio Inf", locker.WithRenewRatio(math.Inf(1)), "WithRenewRatio(+Inf)"},
		{"longest", locker.WithTTL(math.MaxInt64), ""},
		{"longest hold", locker.WithMaxHold(math.MaxInt64), ""},
		{"longest wait", locker.WithWait(math.MaxInt64), ""},
		{"no trace", locker.WithTrace(nil), ""},
		{"no logger", locker.WithLogger(nil), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, perClient := range []bool{true, false} {
				f := newQueuer()
				var own, opts []locker.Option
				if perClient {
					own = append(own, c.o)
				} else {
					opts = append(opts, c.o)
				}
				client := newClient(t, f, own...)
				l, err := client.Acquire(t.Context(), "k", opts...)
				if c.want == "" {
					assert.Sure(t, err)
					assert.Sure(t, l.Check())
					assert.Sure(t, l.Release(t.Context()))
					continue
				}
				_, errTry := client.TryAcquire(t.Context(), "k", opts...)
				_, errEnqueue := client.Enqueue(t.Context(), "k", opts...)
				for _, err := range []error{err, errTry, errEnqueue} {
					assert.Matches(t, err, locker.ErrInvalid)
					if err == nil || !strings.Contains(err.Error(), c.want) {
						t.Errorf("the error is %v, want it to contain %q", err, c.want)
					}
				}
				assert.Exactly(t, "calls", f.count(), 0)
			}
		})
	}
}

// TestOptionsOfOneAcquisition win over the Client's, and stay there.
func TestOptionsOfOneAcquisition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := newClient(t, f, locker.WithTTL(10*time.Second))
		assert.Exactly(t, "TTL", acquire(t, c, "a", locker.WithTTL(time.Minute)).TTL(), time.Minute)
		assert.Exactly(t, "TTL", acquire(t, c, "b").TTL(), 10*time.Second)
	})
}

// TestStopMarginOfAnUnknownTTL is at most half of what the backend grants.
func TestStopMarginOfAnUnknownTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.renew = frozenRenew
		l := acquire(t, newClient(t, f, locker.WithTTL(0), locker.WithStopMargin(time.Hour)), "k")
		ctx, cancel := l.Context(t.Context())
		defer cancel()
		<-ctx.Done()
		assert.Exactly(t, "stopped at", f.now(), believed(33*time.Second)-33*time.Second/2)
	})
}

var goodKeys = []string{"k", "invoices/2024-07", "schlüssel-鍵", "a:b", "%n", "../x", "\U0001F512", strings.Repeat("k", 256), strings.Repeat("é", 128), "\u200b", "\ufffd"}

var badKeys = []string{
	"", " ", "a b", "a\tb", "a\nr\nb", "a\rb", "a\x00b", "\x7f", "a\u0085b", "a\u00a0b", "a\u2028b", "a\u3000b", "a\xffb", "\xc0\xaf", "\xed\xa0\x80",
	strings.Repeat("k", 257), strings.Repeat("é", 129),
}

func TestCheckKey(t *testing.T) {
	for _, k := range goodKeys {
		if err := locker.CheckKey(k); err != nil {
			t.Error(err)
		}
	}
	for _, k := range badKeys {
		assert.Matches(t, locker.CheckKey(k), locker.ErrInvalid)
	}
}

func FuzzCheckKey(f *testing.F) {
	for _, k := range append(goodKeys, badKeys...) {
		f.Add(k)
	}
	f.Fuzz(func(t *testing.T, key string) {
		good := len(key) >= 1 && len(key) <= locker.MaxKey && utf8.ValidString(key) &&
			strings.IndexFunc(key, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) < 0
		err := locker.CheckKey(key)
		if good != (err == nil) {
			t.Errorf("CheckKey(%q) = %v", key, err)
		}
		if err == nil {
			return
		}
		assert.Matches(t, err, locker.ErrInvalid)
		if strings.IndexFunc(err.Error(), unicode.IsControl) >= 0 {
			t.Errorf("the error contains control characters: %q", err)
		}
	})
}

// TestErrorText: what failed, on what, where and why.
func TestErrorText(t *testing.T) {
	f := newFake()
	f.acquire = func(context.Context, locker.Request) (locker.Grant, error) { return locker.Grant{}, locker.ErrAuth }
	_, err := newClient(t, f).Acquire(t.Context(), "k")
	assert.Exactly(t, "error", err.Error(), `distributed: acquire "k" on fake://: authentication refused`)
	assert.Matches(t, locker.ErrDraining, locker.ErrUnavailable)
}

// TestInspect: unsupported is said at once.
func TestInspect(t *testing.T) {
	_, err := newClient(t, newFake()).Inspect(t.Context())
	assert.Matches(t, err, errors.ErrUnsupported)
	assert.Exactly(t, "error", err.Error(), "distributed: inspect fake://: unsupported operation")
	want := locker.Report{Connections: 3}
	got, err := newClient(t, inspector{newFake(), want, nil}).Inspect(t.Context())
	assert.Sure(t, err)
	assert.Exactly(t, "connections", got.Connections, want.Connections)
	_, err = newClient(t, inspector{newFake(), want, errCut}).Inspect(t.Context())
	assert.Matches(t, err, errCut)
}

type inspector struct {
	*fake
	report locker.Report
	err    error
}

func (i inspector) Inspect(context.Context) (locker.Report, error) { return i.report, i.err }

// TestDefaultLogger is that of the time when the Client is made.
func TestDefaultLogger(t *testing.T) {
	book := newLogbook()
	before := slog.Default()
	slog.SetDefault(slog.New(book))
	defer slog.SetDefault(before)
	for _, opts := range [][]locker.Option{nil, {locker.WithLogger(nil)}} {
		f := newFake()
		f.session = locker.NewSession(nil)
		c := locker.New(f, opts...)
		_, err := c.Acquire(t.Context(), "k")
		assert.Sure(t, err)
		f.session.End(errCut)
		assert.Sure(t, c.Close())
	}
	assert.Exactly(t, "log lines", book.with("lease lost, and nobody listens"), 2)
}

// TestRequests: what an Acquirer refuses.
func TestRequests(t *testing.T) {
	c := newClient(t, newFake())
	for _, r := range []struct {
		req  locker.Request
		want string
	}{
		{locker.Request{Kind: locker.Exclusive, Key: "k", Limit: 1, Weight: 1}, ""},
		{locker.Request{Kind: locker.Counting, Key: "k", Limit: math.MaxInt, Weight: math.MaxInt}, ""},
		{locker.Request{Kind: locker.Exclusive, Key: "k", Limit: 2, Weight: 1}, `limit 2 of the lock "k": a lock has 1`},
		{locker.Request{Kind: locker.Counting, Key: "k", Limit: 0, Weight: 1}, `limit 0 of "k": must be at least 1`},
		{locker.Request{Kind: locker.Counting, Key: "k", Limit: -1, Weight: 1}, `limit -1 of "k": must be at least 1`},
		{locker.Request{Kind: locker.Counting, Key: "k", Limit: 3, Weight: 0}, `weight 0 of "k": must be at least 1`},
		{locker.Request{Kind: locker.Counting, Key: "k", Limit: 3, Weight: 4}, `weight 4 of "k": must be at most the limit of 3`},
		{locker.Request{Kind: locker.Kind(7), Key: "k", Limit: 1, Weight: 1}, `kind 7 of "k": must be Exclusive or Counting`},
		{locker.Request{Kind: locker.Exclusive, Key: "", Limit: 1, Weight: 1}, "key is empty"},
	} {
		a, err := c.Acquirer(r.req)
		if r.want == "" {
			assert.Sure(t, err)
			r.req.TTL = ttl // the Client's
			assert.Exactly(t, "request", a.Request(), r.req)
			continue
		}
		assert.Matches(t, err, locker.ErrInvalid)
		if err != nil && !strings.Contains(err.Error(), r.want) {
			t.Errorf("the error is %v, want it to contain %q", err, r.want)
		}
	}
	a, err := c.Acquirer(locker.Request{Kind: locker.Exclusive, Key: "k", Limit: 1, Weight: 1, TTL: time.Hour, Try: true})
	assert.Sure(t, err)
	if r := a.Request(); r.TTL != ttl || r.Try {
		t.Errorf("TTL %v and Try %v of a request are not ignored", r.TTL, r.Try)
	}
	assert.Exactly(t, "kinds", locker.Exclusive.String()+locker.Counting.String(), "locksemaphore")
}
