package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/server"
)

func TestStats(t *testing.T) {
	url := serve(t, server.Config{})
	if out := call(t, toolEnv(), "stats", "--server", url); out.code != 0 || !strings.HasSuffix(out.stdout, "\nkeys: 0, connections: 1\n") {
		t.Errorf("of an idle server: %+v", out)
	}
	defer hold(t, url, "held")()
	hold(t, url, "idle")()
	slot, err := distributed.NewSemaphore(open(t, url), "slots", 5).Acquire(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer slot.Release(t.Context())
	waiter := start(t, toolEnv("DISTRIBUTED_URL="+url), "run", "held", "--", "true")
	eventually(t, "waiting", func() bool { return inspect(t, url, "lock", "held").Waiters == 1 })

	out := call(t, toolEnv("DISTRIBUTED_URL="+url), "stats")
	rows := make(map[string][]string)
	for line := range strings.Lines(out.stdout) {
		if f := strings.Fields(line); len(f) == 12 {
			rows[f[1]] = f
		}
	}
	address := strings.TrimPrefix(url, "dflockd://")
	name := inspect(t, url, "lock", "held").Name
	if pid := strconv.Itoa(os.Getpid()); !strings.Contains(name, "/"+pid+"/") {
		t.Errorf("the holder is called %q, want our own id %s in it", name, pid)
	}
	for key, want := range map[string][]string{ // "?" is anything but -
		"KEY":   {"KIND", "KEY", "HOLDERS", "LIMIT", "WAITERS", "OWNER", "HELD", "LEFT", "IDLE", "VALUE", "AGE", "SERVER"},
		"held":  {"lock", "held", "1", "1", "1", name, "?", "?", "-", "-", "-", address},
		"idle":  {"lock", "idle", "0", "1", "0", "-", "-", "-", "", "-", "-", address},
		"slots": {"semaphore", "slots", "1", "5", "0", name, "?", "-", "-", "-", "-", address},
	} {
		got := rows[key]
		for i, w := range want {
			if len(got) != len(want) || w == "?" && got[i] == "-" || w != "?" && w != "" && got[i] != w {
				t.Errorf("%s: %q, want %q in\n%s", key, got, want, out.stdout)
				break
			}
		}
	}

	out = call(t, toolEnv("DISTRIBUTED_URL="+url), "stats", "--json")
	var r locker.Report
	if err := json.Unmarshal([]byte(out.stdout), &r); err != nil || out.code != 0 {
		t.Fatalf("%+v, %v", out, err)
	}
	if len(r.Keys) != 3 || r.Connections < 3 {
		t.Errorf("%+v, want three keys and the connections of their users", r)
	}
	for _, k := range r.Keys {
		if k.Key == "held" && (k.Holders != 1 || k.Waiters != 1 || k.ExpiresIn <= 0 || k.ExpiresIn > 33*time.Second) {
			t.Errorf("held: %+v", k)
		}
	}
	_ = waiter.cmd.Process.Kill()
}

// TestStatsOfValues has the mark of a Once shown, which is there for long after that.
func TestStatsOfValues(t *testing.T) {
	url := serve(t, server.Config{})
	start(t, toolEnv(), onceSh(url, "exit 0", "--volatile", "key")...).want(0)
	v, err := open(t, url).Get(t.Context(), "once/key")
	if err != nil {
		t.Fatal(err)
	}
	out := call(t, toolEnv(), "stats", "--server", url)
	shows := regexp.MustCompile(fmt.Sprintf(`\nlock +once/key +0 +1 +0 +- +- +- +\S+ +%dB +[0-9.]+m?s +\S+\n`, len(v.Data)))
	if out.code != 0 || !shows.MatchString(out.stdout) {
		t.Errorf("%+v\nwant what matches %s", out, shows)
	}
	out = call(t, toolEnv(), "stats", "--server", url, "--json")
	var r locker.Report
	if err := json.Unmarshal([]byte(out.stdout), &r); err != nil || len(r.Keys) != 1 {
		t.Fatalf("%+v, %v", out, err)
	}
	if v := r.Keys[0].Value; v == nil || v.Bytes == 0 || v.Age < 0 || v.Age > patience {
		t.Errorf("%s", out.stdout)
	}
}

func TestStatsOfNothingIsAList(t *testing.T) {
	out := call(t, toolEnv(), "stats", "--server", serve(t, server.Config{}), "--json")
	if !strings.Contains(out.stdout, `"keys": []`) {
		t.Errorf("%+v, want an empty list and not null", out)
	}
}

// TestStatsOfHalf has one of two servers down.
func TestStatsOfHalf(t *testing.T) {
	url := serve(t, server.Config{})
	defer hold(t, url, "held")()
	both := url + "," + strings.TrimPrefix(nobody(t), "dflockd://")
	for _, args := range [][]string{nil, {"--json"}} {
		out := call(t, toolEnv(), append([]string{"stats", "--server", both}, args...)...)
		if out.code != exitUsage || !strings.Contains(out.stdout, "held") || !strings.Contains(out.stderr, "refused") {
			t.Errorf("stats %q with half of the servers: %+v", args, out)
		}
	}
}

func TestStatsFails(t *testing.T) {
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"--server", nobody(t)}, "refused"},
		{[]string{"--server", "nonsense"}, "must be SCHEME://HOST"},
		{[]string{"extra"}, "extra"},
		{[]string{"--no-such-flag"}, "no-such-flag"},
	} {
		out := call(t, toolEnv(), append([]string{"stats"}, c.args...)...)
		if out.code != exitUsage || !strings.Contains(out.stderr, c.says) || out.stdout != "" {
			t.Errorf("stats %q: %+v, want code 125 and %q", c.args, out, c.says)
		}
	}
}
