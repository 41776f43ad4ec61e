package main

import (
	"os"
	"strings"
	"testing"

	"github.com/distributed-go/distributed/cmd/dlock/internal/ptytest"
	"github.com/distributed-go/distributed/server"
)

func TestForceAsks(t *testing.T) {
	url := serve(t, server.Config{})
	hold(t, url, "key")
	for _, c := range []struct {
		typed string
		code  int
	}{{"n\n", exitFailed}, {"\n", exitFailed}, {"\x04", exitFailed}, {"yes\n", exitOK}, {"y\n", exitFailed}} {
		console := ptytest.Open(t, toolEnv(), os.Args[0], "force", "--server", url, "key")
		console.Press(c.typed)
		printed, code := console.Exit()
		if code != c.code {
			t.Errorf("exit code %d after %q, want %d; it printed:\n%s", code, c.typed, c.code, printed)
		}
		if held := inspect(t, url, "lock", "key").Holders; held == 1 == (c.typed == "yes\n" || c.typed == "y\n") {
			t.Errorf("%d holders after %q", held, c.typed)
		}
		if c.typed == "n\n" && !strings.Contains(printed, `lock "key" is held by `) {
			t.Errorf("asked:\n%s", printed)
		}
	}
}
