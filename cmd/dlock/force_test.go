package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/server"
)

func TestForce(t *testing.T) {
	url := serve(t, server.Config{})
	lease, err := open(t, url).Acquire(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	next := start(t, toolEnv(), runSh(url, `echo "$DLOCK_FENCE"; exit 3`, "key")...)
	eventually(t, "waiting", func() bool { return inspect(t, url, "lock", "key").Waiters == 1 })
	out := call(t, toolEnv(), "force", "--server", url, "--yes", "key")
	if out.code != 0 || !strings.Contains(out.stderr, `lock "key" taken away`) || out.stdout != "" {
		t.Errorf("%+v", out)
	}
	<-lease.Lost()
	if err := lease.Err(); !errors.Is(err, locker.ErrRevoked) || !errors.Is(err, distributed.ErrLost) {
		t.Errorf("the holder was told %v", err)
	}
	next.want(3)
	out = call(t, toolEnv(), "force", "--server", url, "--yes", "key")
	if out.code != exitFailed || !strings.Contains(out.stderr, `nobody holds the lock "key"`) {
		t.Errorf("of a lock that is free: %+v", out)
	}
}

func TestForceOfASemaphore(t *testing.T) {
	url := serve(t, server.Config{})
	slots := distributed.NewSemaphore(open(t, url), "slots", 5)
	for range 3 {
		if _, err := slots.Acquire(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []struct{ ended, code int }{{3, exitOK}, {0, exitFailed}} {
		out := call(t, toolEnv(), "force", "--server", url, "-y", "--semaphore", "--json", "slots")
		var r forceReport
		if err := json.Unmarshal([]byte(out.stdout), &r); err != nil || out.code != want.code || r != (forceReport{"semaphore", "slots", want.ended}) {
			t.Errorf("%+v, %v, want %+v", out, err, want)
		}
	}
}

func TestForceOfAnRWMutex(t *testing.T) {
	url := serve(t, server.Config{})
	mu := distributed.NewRWMutex(open(t, url), "key")
	for range 2 {
		if err := mu.RLockContext(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	out := call(t, toolEnv(), "force", "--server", url, "-y", "key")
	if out.code != exitFailed || !strings.Contains(out.stderr, "--rw") {
		t.Errorf("as a lock: %+v", out)
	}
	out = call(t, toolEnv(), "force", "--server", url, "-y", "--rw", "key")
	if out.code != exitOK || !strings.Contains(out.stderr, "from 2 holders") {
		t.Errorf("%+v", out)
	}
	for range 2 {
		if err := mu.RUnlockContext(t.Context()); !errors.Is(err, locker.ErrLost) {
			t.Errorf("a reader was told %v", err)
		}
	}
}

func TestForceRefusesBadUsage(t *testing.T) {
	url := serve(t, server.Config{})
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"--yes"}, "want one KEY, not 0"},
		{[]string{"--yes", "a", "b"}, "want one KEY, not 2"},
		{[]string{"--yes", "a key"}, "white space"},
		{[]string{"key"}, "--yes"},
		{[]string{"--yes", "--server", nobody(t), "key"}, "refused"},
		{[]string{"--yes", "--server", url + "?nonsense=1", "key"}, "nonsense"},
	} {
		out := call(t, toolEnv("DISTRIBUTED_URL="+url), append([]string{"force"}, c.args...)...)
		if out.code != exitUsage || !strings.Contains(out.stderr, c.says) || out.stdout != "" {
			t.Errorf("force %q: %+v, want code 125 and %q", c.args, out, c.says)
		}
	}
}

func TestHoldersAreNamed(t *testing.T) {
	for want, k := range map[string]locker.KeyReport{
		`lock "k" is held by me for 1.5s, and 2 wait for it`: {Kind: "lock", Key: "k", Holders: 1, Name: "me", Owner: "7", HeldFor: 1500e6, Waiters: 2},
		`lock "k" is held by connection 7`:                   {Kind: "lock", Key: "k", Holders: 1, Owner: "7"},
		`semaphore "k" is held by 3 holders`:                 {Kind: "semaphore", Key: "k", Holders: 3},
		`semaphore "k" is held by 3 holders (me and others)`: {Kind: "semaphore", Key: "k", Holders: 3, Name: "me", HeldFor: 1},
		`semaphore "k" is held by somebody`:                  {Kind: "semaphore", Key: "k", Holders: 1},
	} {
		if got := holders(&k); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
