//go:build unix

package etcdtool

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/distributed-go/distributed/internal/assert"
)

// The exit codes of the tool.
const (
	failed = 1
	lost   = 76
	usage  = 125
)

func testRun(t *testing.T) {
	e := start(t, plain)
	run := func(args ...string) outcome { return e.run(nil, append([]string{"run"}, args...)...) }
	first := run("key", "--", "sh", "-c", "echo $DLOCK_KEY $DLOCK_FENCE; exit 3")
	second := run("key", "--", "sh", "-c", "echo $DLOCK_KEY $DLOCK_FENCE")
	first.want(t, 3, "key ", "")
	second.want(t, 0, "key ", "")
	var one, two uint64
	if _, err := fmt.Sscanf(first.stdout+second.stdout, "key %d\nkey %d\n", &one, &two); err != nil || one == 0 || two <= one {
		t.Errorf("fences in %q and %q: %v", first.stdout, second.stdout, err)
	}
	run("key", "--", "sh", "-c", `"$DLOCK" run -n key -- true`).want(t, failed, "", `"key" is held by "`)
	run("key", "--", "sh", "-c", `"$DLOCK" run -w 200ms -E 9 key -- true`).want(t, 9, "", "held by")
	run("--limit", "2", "key", "--", "sh", "-c", `"$DLOCK" run -n --limit 2 key -- "$DLOCK" run -n --limit 2 key -- true`).want(t, failed, "", "held by")
	run("--limit", "2", "key", "--", "sh", "-c", `"$DLOCK" run -n --limit 3 key -- true`).want(t, usage, "", "limit")
}

func testStats(t *testing.T) {
	e := start(t, plain)
	e.run(nil, "stats").want(t, 0, "keys: 0\n", "")
	out := e.run(nil, "run", "--limit", "3", "gpu", "--", "sh", "-c", `"$DLOCK" run key -- sh -c '"$DLOCK" stats; "$DLOCK" stats --json'`)
	out.want(t, 0, "keys: 2\n", "")
	table, text, _ := strings.Cut(out.stdout, "keys: 2\n")
	if strings.Count(table, "/dlock ") != 2 || !strings.HasPrefix(table, "KIND ") {
		t.Errorf("the table does not say who holds:\n%s", table)
	}
	var report struct {
		Keys []struct {
			Kind, Key, Name string
			Limit, Holders  int
		} `json:"keys"`
	}
	if err := json.Unmarshal([]byte(text), &report); err != nil || len(report.Keys) != 2 {
		t.Fatalf("%v, %s", err, text)
	}
	for i, want := range []struct {
		kind, key string
		limit     int
	}{{"lock", "key", 1}, {"semaphore", "gpu", 3}} {
		if k := report.Keys[i]; k.Kind != want.kind || k.Key != want.key || k.Limit != want.limit || k.Holders != 1 || !strings.HasSuffix(k.Name, "/dlock") {
			t.Errorf("%+v, want %+v", k, want)
		}
	}
}

func testForce(t *testing.T) {
	e := start(t, plain)
	e.run(nil, "run", "key", "--", "sh", "-c", `"$DLOCK" force --yes key; sleep 60`).want(t, lost, "", "revoked")
	e.run(nil, "force", "--yes", "key").want(t, failed, "", "nobody holds")
	e.run(nil, "run", "--limit", "2", "key", "--", "sh", "-c", `"$DLOCK" force --yes --semaphore key; sleep 60`).want(t, lost, "", "revoked")
}

func testOnce(t *testing.T) {
	e := start(t, plain)
	file := filepath.Join(t.TempDir(), "ran")
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			e.run([]string{"FILE=" + file}, "once", "migrate", "--", "sh", "-c", "echo ran >>$FILE").want(t, 0, "", "")
		})
	}
	wg.Wait()
	text, err := os.ReadFile(file)
	assert.Sure(t, err)
	assert.Exactly(t, "what ran", string(text), "ran\n")
	e.run(nil, "once", "--status", "migrate").want(t, 0, "was done by", "")
	e.run(nil, "once", "--reset", "--yes", "migrate").want(t, 0, "", "")
	e.run(nil, "once", "migrate", "--", "echo", "again").want(t, 0, "again", "")
	e.run(nil, "once", "fails", "--", "sh", "-c", "exit 4").want(t, 4, "", "")
	e.run(nil, "once", "fails", "--", "echo", "succeeds").want(t, 0, "succeeds", "")
}

func testBench(t *testing.T) {
	e := start(t, plain)
	out := e.run(nil, "bench", "--quick", "--server", e.url)
	out.want(t, 0, "\n100 locks held: ", "")
	for _, row := range []string{"1 goroutine  ", "100 goroutines, a key each  ", "16 goroutines, one key: owner changes  ", "16 goroutines, one key, 90% readers  "} {
		_, line, _ := strings.Cut(out.stdout, "\n"+row)
		if line = strings.TrimSpace(line); line == "" || line[0] == '-' {
			t.Errorf("%q was not measured:\n%s", row, out.stdout)
		}
	}
	out.want(t, 0, "local hand-over: owner changes\": unsupported operation", "")
}

// The demo is played with a user and a password, which its workers need too.
func testDemo(t *testing.T) {
	e := start(t, plain)
	lock(t, e)
	file := filepath.Join(t.TempDir(), "secret")
	assert.Sure(t, os.WriteFile(file, []byte("root:horse\n"), 0o600))
	out := e.run(nil, "demo", "--json", "--server", e.url, "--auth-token-file", file)
	out.want(t, 0, "", "")
	var report struct {
		Holds   bool
		Rows    []struct{ Name string }
		LeftOut []struct{ Name, Why string } `json:"left_out"`
	}
	if err := json.Unmarshal([]byte(out.stdout), &report); err != nil || !report.Holds || len(report.Rows) != 9 || len(report.LeftOut) != 2 {
		t.Errorf("%v, %s%s", err, out.stdout, out.stderr)
	}
	left, err := e.ctl("root", "horse").Get(t.Context(), "tool/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	assert.Sure(t, err)
	for _, kv := range left.Kvs {
		if kv.Lease == 0 { // what has a lease goes with it
			t.Errorf("left behind: %s", kv.Key)
		}
	}
}

// lock has the etcd ask for a password.
func lock(t *testing.T, e *etcd) {
	t.Helper()
	c := e.ctl("", "")
	_, err := c.UserAdd(t.Context(), "root", "horse")
	assert.Sure(t, err)
	_, err = c.UserGrantRole(t.Context(), "root", "root")
	assert.Sure(t, err)
	_, err = c.AuthEnable(t.Context())
	assert.Sure(t, err)
}

func testPassword(t *testing.T) {
	e := start(t, plain)
	lock(t, e)
	for _, c := range []struct {
		env  []string
		url  string
		code int
		says string
	}{
		{[]string{"DISTRIBUTED_SECRET=root:horse"}, e.url, 0, ""},
		{[]string{"DISTRIBUTED_SECRET=horse"}, e.url + "?user=root", 0, ""},
		{[]string{"DISTRIBUTED_SECRET=root:donkeyhorse"}, e.url, usage, "authentication refused"},
		{nil, e.url, usage, "authentication refused"},
		{[]string{"DFLOCKD_AUTH_TOKEN=root:horse"}, e.url, usage, "authentication refused"}, // of another server
	} {
		for _, args := range [][]string{{"run", "-n", "key"}, {"run", "key"}, {"once", "key"}, {"stats"}, {"force", "--yes", "key"}} {
			verb := args[0]
			args = append(args, "--server", c.url)
			if verb == "run" || verb == "once" {
				args = append(args, "--", "true")
			}
			out := e.run(c.env, args...)
			code := c.code
			if code == 0 && verb == "force" {
				code = failed // nobody holds it
			}
			if out.code != code || !strings.Contains(out.stderr, c.says) || strings.Contains(out.stderr, "horse") {
				t.Errorf("%q with %q: %+v, want code %d and %q, and no secret", args, c.env, out, code, c.says)
			}
		}
	}
}

func testTLS(t *testing.T) {
	e := start(t, func(cfg *embed.Config) {
		cfg.ClientAutoTLS = true
		cfg.ListenClientUrls[0].Scheme, cfg.AdvertiseClientUrls[0].Scheme = "https", "https"
	})
	ca := filepath.Join(e.dir, "fixtures", "client", "cert.pem")
	e.run(nil, "run", "--ca", ca, "key", "--", "sh", "-c", "exit 3").want(t, 3, "", "")
	e.run(nil, "run", "-w", "500ms", "key", "--", "true").want(t, usage, "", "")
}

func testNobodyThere(t *testing.T) {
	e := start(t, plain)
	e.stop()
	var wg sync.WaitGroup
	for _, args := range [][]string{
		{"run", "-w", "500ms", "key", "--", "true"}, {"run", "-n", "key", "--", "true"},
		{"stats"}, {"demo", "--server", e.url}, {"force", "--yes", "key"}, {"once", "--status", "key"},
		{"once", "-w", "500ms", "key", "--", "true"}, {"once", "--reset", "--yes", "key"},
	} {
		wg.Go(func() {
			o := e.run(nil, args...)
			o.want(t, usage, "", e.url)
			o.want(t, usage, "", "connection refused")
		})
	}
	wg.Wait()
}
