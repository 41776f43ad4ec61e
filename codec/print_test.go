package codec_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/distributed-go/distributed/codec"
)

func TestSessionsAreNotPrinted(t *testing.T) {
	id, tok := session(t), token(t, hex32)
	greeting := codec.Greeting{Version: 1, Name: "me", Resume: id, Resuming: true}
	values := []any{
		id, &id, []codec.SessionID{id}, greeting, &greeting, codec.Request{Command: codec.Hello, Hello: &greeting},
		codec.Answer{Status: codec.OK, Version: 1, Session: id, Offers: []byte("durable")},
		codec.Answer{ID: 7, Status: codec.OK, Token: tok, HasToken: true},
		codec.Answer{Notice: codec.NoticeLost, Key: []byte("k"), Token: tok, HasToken: true, Reason: "expired"},
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		for _, v := range values {
			out := fmt.Sprintf(verb, v)
			for _, leak := range []string{sessionHex[:8], hex32[:8], "0xfe, 0xdc", "254 220", "0x1, 0x23", "1 35 69"} {
				if strings.Contains(out, leak) {
					t.Errorf("%s of %T prints %s", verb, v, out)
				}
			}
		}
	}
	if text, err := id.MarshalText(); err != nil || string(text) != "redacted" || id.String() != "redacted" || id.LogValue().String() != "redacted" {
		t.Errorf("a session is %q, %v, %v, %v", text, err, id, id.LogValue())
	}
}

func TestFramesPrintWhatMatters(t *testing.T) {
	r := codec.Request{ID: 7, Command: codec.Lock, Semaphore: true, Key: []byte("k"), Weight: 2, Fences: 3}
	if got := fmt.Sprint(r); !strings.HasPrefix(got, `7 sl "k"`) || !strings.Contains(got, "weight=2 fences=3") {
		t.Errorf("a request prints as %s", got)
	}
	for want, a := range map[string]codec.Answer{
		`7 ok redacted 33s`:                   {ID: 7, Status: codec.OK, HasToken: true, HasTTL: true, TTL: 33 * time.Second},
		`7 queued 4`:                          {ID: 7, Status: codec.Queued, Position: 4},
		`notice lost "k" expired redacted`:    {Notice: codec.NoticeLost, Key: []byte("k"), Reason: "expired", HasToken: true},
		`ok 1 redacted "durable"`:             {Status: codec.OK, Version: 1, Offers: []byte("durable")},
		`error_session "error_session claim"`: {Status: codec.ErrSession, Text: "error_session claim"},
		`ok and 2 bytes of JSON`:              {Status: codec.OK, JSON: []byte("{}")},
	} {
		if got := fmt.Sprint(a); got != want {
			t.Errorf("an answer prints as %q, want %q", got, want)
		}
	}
}
