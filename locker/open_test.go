package locker_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

func TestParseURL(t *testing.T) {
	for _, c := range []struct {
		url   string
		want  locker.URL
		query string
	}{
		{"dflockd://h", locker.URL{Scheme: "dflockd", Hosts: []string{"h"}}, ""},
		{"dflockd://h1:6388,h2:6388?ttl=10s", locker.URL{Scheme: "dflockd", Hosts: []string{"h1:6388", "h2:6388"}}, "ttl=10s"},
		{"dflockds://[::1]:6388,[fe80::1%25eth0]:1", locker.URL{Scheme: "dflockds", Hosts: []string{"[::1]:6388", "[fe80::1%25eth0]:1"}}, ""},
		{"memory://", locker.URL{Scheme: "memory"}, ""},
		{"memory://?ttl=1s&a=1&a=2", locker.URL{Scheme: "memory"}, "a=1&a=2&ttl=1s"},
		{"etcd://a,b/prefix/x?ttl=1s", locker.URL{Scheme: "etcd", Hosts: []string{"a", "b"}, Path: "prefix/x"}, "ttl=1s"},
		{"etcd:///prefix", locker.URL{Scheme: "etcd", Path: "prefix"}, ""},
		{"a+b-c.9://h?q=%40", locker.URL{Scheme: "a+b-c.9", Hosts: []string{"h"}}, "q=%40"},
		{"x://h?owner=me@here", locker.URL{Scheme: "x", Hosts: []string{"h"}}, "owner=me%40here"},
	} {
		u, err := locker.ParseURL(c.url)
		if err != nil {
			t.Error(err)
			continue
		}
		assert.Exactly(t, "query of "+c.url, u.Query.Encode(), c.query)
		u.Query = nil
		if !reflect.DeepEqual(u, c.want) {
			t.Errorf("ParseURL(%q) = %+v, want %+v", c.url, u, c.want)
		}
	}
}

// badURLs are refused; none of the secrets in them may show in the error.
var badURLs = []string{
	"", "h:6388", "://h", "dflockd:h", "dflockd:/h", "/", "?",
	"dflockd://a,,b", "dflockd://a,", "dflockd://,",
	"dflockd://h?%zz", "dflockd://h?a=1;b=2",
	"dflockd://user:hunter2@h", "dflockd://hunter2@h1,h2", "dflockd://h1,user:hunter2@h2", "dflockd://:hunter2@h?ttl=1s",
	"user:hunter2@h:6388", "hunter2@h", "x user:hunter2@h://y", "hunter2@h://y", "9x://h", "a b://h", "a\x00://h", "é://h",
	"dflockd://us/er:hunter2@h", "dflockd://us?er:hunter2@h", "dflockd://us#er:hunter2@h",
	"dflockd://h#fragment", "dflockd://h /x", "dflockd://h\x00", "dflockd://h\n", "dflockd://h?secret=hunter2&%zz",
}

func TestParseBadURL(t *testing.T) {
	for _, s := range badURLs {
		u, err := locker.ParseURL(s)
		if err == nil {
			t.Errorf("ParseURL(%q) = %+v", s, u)
			continue
		}
		assert.Matches(t, err, locker.ErrInvalid)
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error about %q shows the secret: %v", s, err)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, s := range append(badURLs, "dflockd://h1:6388,h2?ttl=1s", "memory://", "etcd:///prefix?a=b", "dflockds://[::1]:6388") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := locker.ParseURL(s)
		if err != nil {
			assert.Matches(t, err, locker.ErrInvalid)
			return
		}
		if u.Scheme == "" || slices.Contains(u.Hosts, "") || u.Query == nil {
			t.Errorf("ParseURL(%q) = %+v", s, u)
		}
		for _, h := range u.Hosts {
			if strings.ContainsAny(h, "@/?#, \n\x00") {
				t.Errorf("ParseURL(%q) has the host %q", s, h)
			}
		}
		again := u.Scheme + "://" + strings.Join(u.Hosts, ",")
		if u.Path != "" {
			again += "/" + u.Path
		}
		v, err := locker.ParseURL(again + "?" + u.Query.Encode())
		if err != nil || !reflect.DeepEqual(u, v) {
			t.Errorf("ParseURL(%q) = %+v, and again %+v, %v", s, u, v, err)
		}
	})
}

// schemes counts those that tests registered, because none can be taken twice.
var schemes atomic.Int64

func newScheme() string { return fmt.Sprint("test-", schemes.Add(1)) }

// TestOpen: options win over the URL, which wins over the defaults; what must
// not stand in a URL reaches the opener, and no other secret does.
func TestOpen(t *testing.T) {
	f := newFake()
	var got locker.URL
	var dial locker.Dial
	scheme := newScheme()
	locker.Register(scheme, func(u locker.URL, d locker.Dial) (locker.Backend, []locker.Option, error) {
		got, dial = u, d
		return f, []locker.Option{locker.WithTTL(20 * time.Second), locker.WithStopMargin(time.Second)}, nil
	})
	config := new(tls.Config)
	c, err := locker.Open(scheme+"://h1,h2/p?a=b", locker.WithSecret("hunter2"), locker.WithTLS(config), locker.WithTTL(30*time.Second))
	assert.Sure(t, err)
	defer c.Close()
	assert.Exactly(t, "URL", fmt.Sprintf("%v %+v %s %s", got, got, got.Hosts, got.Query), scheme+"://h1,h2/p "+scheme+"://h1,h2/p [h1 h2] map[a:[b]]")
	assert.Exactly(t, "secret", dial.Secret, "hunter2")
	assert.Exactly(t, "TLS", dial.TLS, config)
	l, err := c.Acquire(t.Context(), "k")
	assert.Sure(t, err)
	assert.Exactly(t, "TTL", l.TTL(), 30*time.Second)
	assert.Sure(t, l.Release(t.Context()))
	assert.Exactly(t, "calls before the first acquisition", f.of("acquire")[0].op, "acquire")
}

// TestOpenFails: with the reason, and without what may be a secret.
func TestOpenFails(t *testing.T) {
	scheme := newScheme()
	locker.Register(scheme, func(locker.URL, locker.Dial) (locker.Backend, []locker.Option, error) {
		return nil, nil, fmt.Errorf("%w: parameter secret is not known", locker.ErrInvalid)
	})
	for _, c := range []struct {
		url  string
		opts []locker.Option
		want string
	}{
		{"nothing://h", nil, `scheme "nothing" is not one of `},
		{"nothing://h?secret=hunter2", nil, `scheme "nothing" is not one of `},
		{scheme + "://h/p?secret=hunter2", nil, `distributed: open "` + scheme + `://h/p": invalid argument: parameter secret is not known`},
		{"no url", nil, "must be SCHEME://HOST"},
	} {
		_, err := locker.Open(c.url, c.opts...)
		assert.Matches(t, err, locker.ErrInvalid)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Open(%q): %v, want %q", c.url, err, c.want)
		}
	}
	_, err := locker.Open("nothing://h")
	if !strings.Contains(err.Error(), scheme) {
		t.Errorf("%v does not list the schemes that are known", err)
	}
}

// TestOpenChecksTheOptionsOfTheURL: a mistake shows before the first lock.
func TestOpenChecksTheOptionsOfTheURL(t *testing.T) {
	f := newFake()
	scheme := newScheme()
	locker.Register(scheme, func(locker.URL, locker.Dial) (locker.Backend, []locker.Option, error) {
		return f, []locker.Option{locker.WithTTL(2 * time.Second)}, nil
	})
	for i, o := range []locker.Option{locker.WithStopMargin(time.Minute), locker.WithTTL(-1), locker.WithRenewRatio(1)} {
		_, err := locker.Open(scheme+"://h", o)
		assert.Matches(t, err, locker.ErrInvalid)
		assert.Exactly(t, "closed backends", len(f.of("close")), i+1)
	}
}

func TestRegisterPanics(t *testing.T) {
	scheme := newScheme()
	locker.Register(scheme, func(locker.URL, locker.Dial) (locker.Backend, []locker.Option, error) {
		return nil, nil, errors.ErrUnsupported
	})
	for what, register := range map[string]func(){
		"twice": func() {
			locker.Register(scheme, func(locker.URL, locker.Dial) (locker.Backend, []locker.Option, error) { return nil, nil, nil })
		},
		"no opener": func() { locker.Register(newScheme(), nil) },
		"no scheme": func() {
			locker.Register("", func(locker.URL, locker.Dial) (locker.Backend, []locker.Option, error) { return nil, nil, nil })
		},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Register: %s: no panic", what)
				}
			}()
			register()
		}()
	}
}
