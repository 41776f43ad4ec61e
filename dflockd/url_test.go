package dflockd

import (
	"errors"
	"strings"
	"testing"

	"github.com/distributed-go/distributed/locker"
)

func TestOpenURL(t *testing.T) {
	for _, c := range []struct{ url, backend string }{
		{"dflockd://127.0.0.1:6388", "dflockd://127.0.0.1:6388"},
		{"dflockd://", "dflockd://127.0.0.1:6388"},
		{"dflockd://h1,h2:7000", "dflockd://h1:6388,h2:7000"},
		{"dflockd://[::1]:6388,[::2]", "dflockd://[::1]:6388,[::2]:6388"},
		{"dflockds://h1?ttl=10s&fences=1&keepalive=5s&max-conns=100&shard=rendezvous&keep-on-disconnect=1", "dflockds://h1:6388"},
	} {
		client, err := locker.Open(c.url)
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		if got := client.Backend().String(); got != c.backend {
			t.Errorf("%s: backend %s, want %s", c.url, got, c.backend)
		}
		if err := client.Close(); err != nil {
			t.Errorf("%s: %v", c.url, err)
		}
	}
}

func TestOpenURLSetsOptions(t *testing.T) {
	client, err := locker.Open("dflockd://h1,h2?fences=1&keepalive=5s&max-conns=7&keep-on-disconnect=true&insecure-secret=1", locker.WithSecret("s"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c := client.Backend().(*Backend).cfg
	if !c.fences || c.keepalive.Seconds() != 5 || c.maxConns != 7 || !c.keep || string(c.secret) != "s" || c.tls != nil {
		t.Errorf("the options of the URL have not all arrived: fences %v, keepalive %v, max-conns %d, keep %v, TLS %v",
			c.fences, c.keepalive, c.maxConns, c.keep, c.tls != nil)
	}
}

func TestOpenURLRefuses(t *testing.T) {
	for url, says := range map[string]string{
		"dflockd://user:secret@h1":        "must not hold a secret",
		"dflockd://h1,,h2":                "a host is empty",
		"dflockd://h1:port":               "port",
		"dflockd://h1:70000":              "70000",
		"dflockd://h1/db":                 `path "db"`,
		"dflockd://h1?tll=10s":            `unknown parameter "tll", want one of fences`,
		"dflockd://h1?ttl=10":             "with a unit",
		"dflockd://h1?ttl=-1s":            "positive",
		"dflockd://h1?ttl=1s&ttl=2s":      "given 2 times",
		"dflockd://h1?shard=md5":          "want crc32 or rendezvous",
		"dflockd://h1?max-conns=1":        "want at least 2",
		"dflockd://h1?max-conns=many":     "whole number",
		"dflockd://h1?fences=perhaps":     "want 1 or 0",
		"dflockd://h1?insecure-secret=\n": "",
	} {
		_, err := locker.Open(url)
		if !errors.Is(err, locker.ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: got %v, want an error that matches ErrInvalid and says %q", url, err, says)
		}
		if err != nil && strings.Contains(err.Error(), "user:secret") {
			t.Errorf("%q: the error shows the secret: %v", url, err)
		}
	}
	_, err := locker.Open("dflockd://example.com", locker.WithSecret("hunter2"))
	if !errors.Is(err, locker.ErrInvalid) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a secret over plaintext to another machine: %v", err)
	}
}
