package dflockd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/distributed-go/distributed/locker"
)

func TestAddresses(t *testing.T) {
	for s, want := range map[string]string{
		"127.0.0.1":           "127.0.0.1:6388",
		"h1":                  "h1:6388",
		"h1:1":                "h1:1",
		"h1.example.com:7000": "h1.example.com:7000",
		"[::1]":               "[::1]:6388",
		"[::1]:65535":         "[::1]:65535",
		"[fe80::1%eth0]:6388": "[fe80::1%eth0]:6388",
	} {
		a, err := parseAddress(s)
		if err != nil || a.String() != want {
			t.Errorf("%q is %v, %v; want %s", s, a, err, want)
		}
	}
	for _, s := range []string{
		"", ":6388", "h1:", "h1:0", "h1:65536", "h1:x", "h1:-1", "h1:+1", "::1", "::1:6388", "[::1", "[::1]6388", "[::1]:",
		"[h1]:6388", "[]:6388", "h 1", "h1/path", "u@h1", "h1\n", "h1?x", "[::1]x:1",
	} {
		a, err := parseAddress(s)
		if err == nil {
			t.Errorf("%q is accepted as %v", s, a)
		} else if !strings.Contains(err.Error(), fmt.Sprintf("%q", s)) {
			t.Errorf("%q: the error does not name it: %v", s, err)
		}
	}
}

func TestLocalAddresses(t *testing.T) {
	for s, want := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "127.9.9.9:1": true, "[::1]:6388": true, "[::ffff:127.0.0.1]": true,
		"h1": false, "10.0.0.1": false, "0.0.0.0": false, "[::]": false, "localhost.example.com": false, "128.0.0.1": false,
	} {
		a, err := parseAddress(s)
		if err != nil || a.local() != want {
			t.Errorf("%q: local %v, %v", s, a.local(), err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		servers []string
		opts    []Option
		says    string
	}{
		"no servers":         {nil, nil, "no servers"},
		"empty server":       {[]string{"h1", ""}, nil, "no host"},
		"bad port":           {[]string{"h1:port"}, nil, `"port"`},
		"negative keepalive": {[]string{"h1"}, []Option{WithKeepalive(-time.Second)}, "-1s"},
		"tiny keepalive":     {[]string{"h1"}, []Option{WithKeepalive(time.Millisecond)}, "1ms"},
		"one connection":     {[]string{"h1"}, []Option{WithMaxConns(1)}, "at least 2"},
		"negative cap":       {[]string{"h1"}, []Option{WithMaxConns(-5)}, "-5"},
		"secret in plain":    {[]string{"localhost", "h1"}, []Option{WithSecret("hunter2")}, "h1:6388"},
		"line feed":          {[]string{"localhost"}, []Option{WithSecret("hunter2\n")}, "line feed"},
	} {
		b, err := New(c.servers, c.opts...)
		if !errors.Is(err, locker.ErrInvalid) || b != nil {
			t.Errorf("%s: %v, %v", name, b, err)
			continue
		}
		if !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error %q, want %q and no secret in it", name, err, c.says)
		}
	}
}

func TestNewAccepts(t *testing.T) {
	for name, opts := range map[string][]Option{
		"TLS":               {WithSecret("s"), WithTLS(nil)},
		"TLS configuration": {WithSecret("s"), WithTLS(&tls.Config{ServerName: "x"})},
		"insecure":          {WithSecret("s"), WithInsecureSecret()},
		"no secret":         {WithSecret("")},
	} {
		b, err := New([]string{"10.0.0.1"}, opts...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		b.Close()
	}
}

// What can never be right is refused before anything is sent: nobody listens
// in this test, so that whatever was dialled would fail in another way.
func TestRequestsThatAreRefused(t *testing.T) {
	n := newNetwork()
	b := newBackend(t, []string{where}, WithDialer(n.dial))
	defer b.Close()
	heavy := slot("k", 5)
	heavy.Weight = 2
	hasty := lock("k")
	hasty.TTL = -1
	for name, c := range map[string]struct {
		req  locker.Request
		want error
	}{
		"weight":            {heavy, errors.ErrUnsupported},
		"limit":             {slot("k", 0), locker.ErrInvalid},
		"TTL":               {hasty, locker.ErrInvalid},
		"empty key":         {lock(""), locker.ErrInvalid},
		"line feed in key":  {lock("k\nr\nk"), locker.ErrInvalid},
		"space in key":      {lock("a b"), locker.ErrInvalid},
		"key that is long":  {lock(strings.Repeat("k", 257)), locker.ErrInvalid},
		"key not in UTF-8":  {lock("\xff"), locker.ErrInvalid},
		"control character": {lock("\x00"), locker.ErrInvalid},
	} {
		_, err := b.Acquire(context.Background(), c.req)
		if !errors.Is(err, c.want) {
			t.Errorf("acquire, %s: %v", name, err)
		}
		_, err = b.Enqueue(context.Background(), c.req)
		if !errors.Is(err, c.want) {
			t.Errorf("enqueue, %s: %v", name, err)
		}
	}
	injected := locker.Hold{Key: "k\nr\nk"}
	wantErr(t, b.Release(context.Background(), injected), locker.ErrInvalid)
	wantErr(t, renewOnce(b, injected, time.Second, 1).Err, locker.ErrInvalid)
	for _, ttl := range []time.Duration{0, -time.Second} {
		wantErr(t, renewOnce(b, locker.Hold{Key: "k"}, ttl, 1).Err, locker.ErrInvalid)
	}
	if n.dialled(where) != 0 {
		t.Error("it dialled")
	}
}

func TestKeepaliveSettings(t *testing.T) {
	for _, keepalive := range []time.Duration{10 * time.Millisecond, time.Second, DefaultKeepalive, time.Hour} {
		c, err := configure(nil, []Option{WithKeepalive(keepalive)})
		if err != nil {
			t.Fatal(err)
		}
		if tick := c.tick(); tick <= 0 || tick > 500*time.Millisecond || tick > keepalive/2 {
			t.Errorf("keepalive %v: tick %v", keepalive, tick)
		}
		if c.idle() <= 2*keepalive {
			t.Errorf("keepalive %v: idle %v", keepalive, c.idle())
		}
		if n := c.ticks(requestTimeout); time.Duration(n-1)*c.tick() < requestTimeout {
			t.Errorf("keepalive %v: %d ticks pass within %v", keepalive, n, time.Duration(n-1)*c.tick())
		}
	}
}
