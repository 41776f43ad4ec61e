//go:build unix

package servers

import (
	"net"
	"strings"
	"testing"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/echo"
	"github.com/distributed-go/distributed/internal/leaktest"
	"github.com/distributed-go/distributed/internal/proc"
)

func TestMain(m *testing.M) {
	proc.Main(map[string]proc.Role{"server": Serve})
	leaktest.Main(m)
}

func TestEcho(t *testing.T) {
	var addr string
	proc.Start(t, "server", Echo, &addr)
	c, err := echo.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.RoundTrip(); err != nil {
		t.Error(err)
	}
}

func TestLocks(t *testing.T) {
	var addr string
	proc.Start(t, "server", Locks, &addr)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(codec.AppendRequest(nil, &codec.Request{Command: codec.Lock, Key: []byte("key")})); err != nil {
		t.Fatal(err)
	}
	var a codec.Answer
	if err := codec.NewAnswerReader(conn).Read(&a); err != nil || a.Status != codec.OK {
		t.Errorf("%v, %v", a.Status, err)
	}
}

func TestAnUnknownKindIsRefused(t *testing.T) {
	cmd, err := proc.InRole("server")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := proc.Launch(t.Context(), cmd, "server", "toaster", nil); err == nil || !strings.Contains(err.Error(), "toaster") {
		t.Errorf("a toaster: %v", err)
	}
}

// TestTheEnd has a parent that hangs up: the child ends by itself, and well.
func TestTheEnd(t *testing.T) {
	for _, kind := range []string{Echo, Locks} {
		cmd, err := proc.InRole("server")
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdin = strings.NewReader(`{"args":"` + kind + `"}`)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "127.0.0.1:") {
			t.Errorf("%s: %v, and said %q", kind, err, out)
		}
	}
}
