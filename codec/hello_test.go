package codec_test

import (
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/distributed-go/distributed/codec"
)

// bootID is how Linux writes one.
const bootID = "0f7b4c3e-9a51-4a7f-8d7e-2f1f3c7f0a11"

// greetings are what clients say of themselves and how it looks on the wire,
// both ways.
func greetings(t testing.TB) map[string]codec.Greeting {
	long := strings.Repeat("n", 64)
	return map[string]codec.Greeting{
		"1 me":                                        {Version: 1, Name: "me"},
		"1 host/4711/worker":                          {Version: 1, Name: "host/4711/worker"},
		"2147483647 !~":                               {Version: 1<<31 - 1, Name: "!~"},
		"1 me resume=" + sessionHex:                   {Version: 1, Name: "me", Resume: session(t), Resuming: true},
		"1 me resume=" + strings.Repeat("0", 32):      {Version: 1, Name: "me", Resuming: true},
		"1 me process=" + bootID + ":4026531836:4711": {Version: 1, Name: "me", Process: bootID + ":4026531836:4711"},
		"1 me attempt=1":                              {Version: 1, Name: "me", Attempt: 1},
		"1 me resume=" + sessionHex + " attempt=9223372036854775807": {Version: 1, Name: "me", Resume: session(t), Resuming: true, Attempt: codec.MaxID},
		"1 me release-on-close": {Version: 1, Name: "me", ReleaseOnClose: true},
		"1 " + long + " resume=" + sessionHex + " process=" + bootID + ":4294967295:4194304 release-on-close": {
			Version: 1, Name: long, Resume: session(t), Resuming: true, Process: bootID + ":4294967295:4194304", ReleaseOnClose: true,
		},
	}
}

func readHello(wire string) (codec.Request, error) {
	var r codec.Request
	err := codec.NewRequestReader(strings.NewReader(wire)).Read(&r)
	return r, err
}

func TestHelloBothWays(t *testing.T) {
	for argument, g := range greetings(t) {
		wire := "hello\n_\n" + argument + "\n"
		want := codec.Request{Command: codec.Hello, Hello: &g}
		if got := string(codec.AppendRequest(nil, &want)); got != wire {
			t.Errorf("AppendRequest(%v) = %q, want %q", want, got, wire)
		}
		if got, err := readHello(wire); err != nil || !equalRequests(got, want) {
			t.Errorf("Read(%q) = %v, %v; want %v", wire, got, err, want)
		}
	}
}

// Later clients say more; earlier servers must not mind.
func TestHelloWithUnknownWords(t *testing.T) {
	for argument, want := range map[string]string{
		"1 me turbo":                           "1 me",
		"1 me color=red release-on-close a=b=": "1 me release-on-close",
		"1 me RESUME=x Process= =x = ===":      "1 me",
		"1 me resume":                          "", // known, and wrong
		"1 me attempt":                         "",
		"1 me attempts=3 Attempt=x":            "1 me",
		"1 me release-on-close=no":             "1 me",
		"1 me \x00\xff":                        "1 me",
		"2 me resume=" + sessionHex + " x":     "2 me resume=" + sessionHex,
		" \t1  me\tprocess=a:b:c ":             "1 me process=a:b:c",
		"001 me process=a=b":                   "1 me process=a=b",
	} {
		r, err := readHello("hello\n_\n" + argument + "\n")
		if want == "" {
			if err != codec.ErrMalformed {
				t.Errorf("hello %q = %v, %v; want ErrMalformed", argument, r, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("hello %q: %v", argument, err)
		} else if got := string(codec.AppendRequest(nil, &r)); got != "hello\n_\n"+want+"\n" {
			t.Errorf("hello %q is %q, want %q", argument, got, want)
		}
	}
}

// malformedHellos are requests of three lines.
func malformedHellos() []string {
	var wire []string
	for _, argument := range []string{
		"", "1", "0 me", "-1 me", "x me", "me 1", "2147483648 me", "99999999999999999999 me", "1.0 me", "1ms me",
		"1 " + strings.Repeat("n", 65), "1 m\x00e", "1 m\x7fe", "1 schlüssel", "1 \xff", "1 \u2028",
		"1 me resume=", "1 me resume=x", "1 me resume=" + sessionHex[1:], "1 me resume=" + sessionHex + "0", "1 me resume=" + strings.ToUpper(sessionHex), "1 me resume==" + sessionHex[1:],
		"1 me resume=" + sessionHex + " resume=" + sessionHex, "1 me process=", "1 me process=a process=b", "1 me process=a\x01b", "1 me process=ü", "1 me release-on-close release-on-close",
		"1 me attempt=", "1 me attempt=0", "1 me attempt=x", "1 me attempt=-1", "1 me attempt=01", "1 me attempt=1 attempt=1", "1 me attempt=1 attempt=2", "1 me attempt=x attempt=2", "1 me attempt=9223372036854775808",
	} {
		wire = append(wire, "hello\n_\n"+argument+"\n")
	}
	return append(wire, "hello\nk\n1 me\n", "hello\n\n1 me\n", "hello\n _\n1 me\n", "hello \n_\n1 me\n", "HELLO\n_\n1 me\n", "shello\n_\n1 me\n", "1 hello\n_\n1 me\n")
}

func TestMalformedHello(t *testing.T) {
	for _, wire := range malformedHellos() {
		if r, err := readHello(wire); err != codec.ErrMalformed || !equalRequests(r, codec.Request{}) {
			t.Errorf("Read(%q) = %v, %v; want ErrMalformed and nothing else", wire, r, err)
		}
	}
	if r, err := readHello("hello\n_\n1 me " + strings.Repeat("x", 252) + "\n"); err != codec.ErrTooLong {
		t.Errorf("a hello of 257 bytes = %v, %v; want ErrTooLong", r, err)
	}
}

func TestHelloIsACopy(t *testing.T) {
	rr := codec.NewRequestReader(strings.NewReader("hello\n_\n1 me process=a:b:c\nhello\n_\n1 xx process=x:y:z\n"))
	var first, second codec.Request
	if rr.Read(&first) != nil || rr.Read(&second) != nil || first.Hello.Name != "me" || first.Hello.Process != "a:b:c" {
		t.Errorf("the first became %v, the second is %v", first, second)
	}
}

func TestCheckNameAgreesWithTheReader(t *testing.T) {
	names := []string{"me", "", strings.Repeat("n", 64), strings.Repeat("n", 65), "a b", "ü", "\xff", "a=b", "resume=x"}
	for c := range 256 {
		if c != '\n' {
			names = append(names, "a"+string([]byte{byte(c)})+"b")
		}
	}
	for _, name := range names {
		r, err := readHello("hello\n_\n1 " + name + "\n")
		check := codec.CheckName(name)
		// A blank in a name ends it, and what follows is a word to ignore.
		if taken := err == nil && r.Hello.Name == name; taken != (check == nil) {
			t.Errorf("CheckName(%q) = %v, and Read says %v, %v", name, check, r, err)
		}
	}
	if codec.CheckName("a\nb") == nil {
		t.Error("CheckName takes a line feed")
	}
}

func TestSessionIDText(t *testing.T) {
	if got := string(session(t).AppendHex([]byte("x"))); got != "x"+sessionHex {
		t.Errorf("AppendHex = %q", got)
	}
	for _, s := range []string{"", sessionHex[:31], sessionHex + "0", strings.ToUpper(sessionHex), strings.Repeat("g", 32)} {
		if id, ok := codec.ParseSessionID([]byte(s)); ok || id != (codec.SessionID{}) {
			t.Errorf("ParseSessionID(%q) took it", s)
		}
	}
}

// welcomes are answers to Hello and how they look on the wire, both ways.
func welcomes(t testing.TB) map[string]codec.Answer {
	id := session(t)
	return map[string]codec.Answer{
		"ok 1 " + sessionHex + "\n":                                     {Status: codec.OK, Version: 1, Session: id},
		"ok 1 " + sessionHex + " durable grace=60000 max-value=65536\n": {Status: codec.OK, Version: 1, Session: id, Offers: []byte("durable grace=60000 max-value=65536")},
		"ok 2147483647 " + sessionHex + " =\n":                          {Status: codec.OK, Version: 1<<31 - 1, Session: id, Offers: []byte("=")},
		"error\n":                                                       {Status: codec.Failed},
		"error_auth\n":                                                  {Status: codec.ErrAuth},
		"error_draining\n":                                              {Status: codec.Draining},
		"error_session\n":                                               {Status: codec.ErrSession},
		"error_session claim\n":                                         {Status: codec.ErrSession, Claim: true},
	}
}

func readWelcome(wire string) (codec.Answer, error) {
	var a codec.Answer
	err := codec.NewAnswerReader(strings.NewReader(wire)).ReadHello(&a)
	return a, err
}

func TestWelcomeBothWays(t *testing.T) {
	for wire, want := range welcomes(t) {
		if got := string(codec.AppendAnswer(nil, &want)); got != wire {
			t.Errorf("AppendAnswer(%v) = %q, want %q", want, got, wire)
		}
		for _, end := range []string{"\n", "\r\n"} {
			if got, err := readWelcome(strings.TrimSuffix(wire, "\n") + end); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("ReadHello(%q) = %v, %v; want %v", wire, got, err, want)
			}
		}
	}
}

func TestErrorsToHelloMaySayMore(t *testing.T) {
	for line, want := range map[string]codec.Answer{
		"error_session claims":  {Status: codec.ErrSession, Text: "error_session claims"},
		"error_session claim 5": {Status: codec.ErrSession, Text: "error_session claim 5"},
		"error_session  a b c":  {Status: codec.ErrSession, Text: "error_session  a b c"},
		"error_not_leader h:1":  {Status: codec.Failed, Text: "error_not_leader h:1"},
		"error_session_unknown": {Status: codec.Failed, Text: "error_session_unknown"},
	} {
		if got, err := readWelcome(line + "\n"); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("ReadHello(%q) = %v, %v; want %v", line, got, err, want)
		}
	}
}

func TestMalformedWelcomes(t *testing.T) {
	for _, line := range []string{
		"", "ok", "ok 1", "ok " + sessionHex, "ok " + sessionHex + " 33", "ok 0 " + sessionHex, "ok -1 " + sessionHex, "ok x " + sessionHex, "ok 2147483648 " + sessionHex, "ok 1 " + sessionHex[1:],
		"ok 1 " + strings.ToUpper(sessionHex), "ok 1ms " + sessionHex, "OK 1 " + sessionHex, "1 ok 1 " + sessionHex, "ok {}", "queued", "timeout", "acquired " + hex32 + " 33", "canceled", "error now", "0 displaced", "hello",
	} {
		if a, err := readWelcome(line + "\n"); err != codec.ErrMalformedAnswer || !reflect.DeepEqual(a, codec.Answer{}) {
			t.Errorf("ReadHello(%q) = %v, %v; want ErrMalformedAnswer and nothing else", line, a, err)
		}
	}
	if a, err := readWelcome("ok 1 " + sessionHex + " " + strings.Repeat("x", 512) + "\n"); err != codec.ErrTooLong {
		t.Errorf("endless offers = %v, %v; want ErrTooLong", a, err)
	}
	if _, err := readWelcome("ok 1"); err != io.ErrUnexpectedEOF {
		t.Errorf("half an answer: %v", err)
	}
}

func TestOffers(t *testing.T) {
	a, err := readWelcome("ok 1 " + sessionHex + "  durable\tgrace=60000 url=a=b durable=2 \n")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"durable": "", "grace": "60000", "url": "a=b"} {
		if got, offered := a.Offer(name); !offered || got != want {
			t.Errorf("Offer(%q) = %q, %t; want %q", name, got, offered, want)
		}
	}
	for _, name := range []string{"", "grac", "grace=60000", "60000", "a"} {
		if got, offered := a.Offer(name); offered {
			t.Errorf("Offer(%q) = %q", name, got)
		}
	}
}

func TestOffersAreACopy(t *testing.T) {
	ar := codec.NewAnswerReader(strings.NewReader("ok 1 " + sessionHex + " aaaa\nok 1 " + sessionHex + " bbbb\n"))
	var a, b codec.Answer
	if ar.ReadHello(&a) != nil || ar.ReadHello(&b) != nil || string(a.Offers) != "aaaa" {
		t.Errorf("the first became %v, the second is %v", a, b)
	}
}

// Who has not said hello must not take its answer for another's.
func TestWelcomeIsNoAnswerOfTheBaseProtocol(t *testing.T) {
	for _, line := range []string{"ok 1 " + sessionHex, "ok 1 " + sessionHex + " durable", "canceled", "queued 1", "ok 33000ms", "ok " + hex32 + " 33000ms", "0 displaced", "1 ok"} {
		var a codec.Answer
		if err := codec.NewAnswerReader(strings.NewReader(line + "\n")).Read(&a); err != codec.ErrMalformedAnswer {
			t.Errorf("Read(%q) = %v, %v; want ErrMalformedAnswer", line, a, err)
		}
	}
	var a codec.Answer
	if err := codec.NewAnswerReader(strings.NewReader("error_session\n")).Read(&a); err != nil || a.Status != codec.Failed || a.Text != "error_session" {
		t.Errorf("Read(error_session) = %v, %v; want Failed with its text", a, err)
	}
}
