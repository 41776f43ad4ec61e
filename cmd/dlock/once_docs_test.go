package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/distributed-go/distributed/server"
)

const oncePage = "../../docs/once.md"

// programs returns what stands in the page as Go, each a whole file.
func programs(t *testing.T) (all []string) {
	t.Helper()
	text, err := os.ReadFile(oncePage)
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range strings.Split(string(text), "\n```go\n")[1:] {
		source, _, ok := strings.Cut(block, "\n```\n")
		if !ok {
			t.Fatalf("%s: a block does not end: %.80q", oncePage, block)
		}
		all = append(all, source+"\n")
	}
	return all
}

// build builds the program of the page with these words in it.
func build(t *testing.T, words string) (file string) {
	t.Helper()
	for _, source := range programs(t) {
		if strings.Contains(source, words) {
			return compile(t, source)
		}
	}
	t.Fatalf("%s has no program with %q", oncePage, words)
	return ""
}

func compile(t *testing.T, source string) (file string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, "program")
	out, err := exec.Command("go", "build", "-o", file, filepath.Join(dir, "main.go")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, source)
	}
	return file
}

func TestOncePageCompiles(t *testing.T) {
	all := programs(t)
	if len(all) < 4 {
		t.Errorf("%d programs", len(all))
	}
	for _, source := range all {
		compile(t, source)
	}
}

// runAll runs a program so often at once, and returns what they printed.
func runAll(t *testing.T, n int, env []string, file string, args ...string) (printed string) {
	t.Helper()
	outputs := make([][]byte, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			cmd := exec.Command(file, args...)
			cmd.Env = env
			var err error
			if outputs[i], err = cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, outputs[i])
			}
		})
	}
	wg.Wait()
	return string(bytes.Join(outputs, nil))
}

func TestOncePageMigrates(t *testing.T) {
	t.Parallel() // it mostly waits
	replica := build(t, "// Replica migrates")
	env := toolEnv("DISTRIBUTED_URL=" + lasting(t))
	for i, want := range []int{1, 0} {
		printed := runAll(t, 10, env, replica)
		if got := strings.Count(printed, "migrating\n"); got != want || strings.Count(printed, "serving what was migrated by ") != 10 {
			t.Errorf("start %d: printed\n%s\nwant %d to migrate and 10 to serve", i, printed, want)
		}
	}
}

func TestOncePageTamesAStampede(t *testing.T) {
	t.Parallel() // it mostly waits
	frontend := build(t, "// Frontend answers")
	env := toolEnv("DISTRIBUTED_URL=" + serve(t, server.Config{}))
	var addresses []string
	var logs bytes.Buffer
	var mu sync.Mutex // of logs
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, l.Addr().String())
		l.Close()
		cmd := exec.Command(frontend, l.Addr().String())
		cmd.Env = env
		cmd.Stderr = lockedWriter{&mu, &logs}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
	for _, address := range addresses {
		eventually(t, "listening", func() bool {
			conn, err := net.Dial("tcp", address)
			if err == nil {
				conn.Close()
			}
			return err == nil
		})
	}
	defer http.DefaultClient.CloseIdleConnections()
	answers := make(chan string, 90)
	var wg sync.WaitGroup
	for i := range cap(answers) {
		wg.Go(func() { answers <- getUser(t, addresses[i%len(addresses)]) })
	}
	wg.Wait()
	close(answers)
	first := <-answers
	for answer := range answers {
		if answer != first {
			t.Errorf("answers %q and %q", first, answer)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if n := strings.Count(logs.String(), "loading 42"); n != 1 {
		t.Errorf("loaded %d times:\n%s", n, &logs)
	}
}

// getUser returns what a frontend says of the user 42.
func getUser(t *testing.T, address string) string {
	resp, err := http.Get(fmt.Sprintf("http://%s/users/42", address))
	if err != nil {
		t.Error(err)
		return ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	var user struct{ ID, Name string }
	if err == nil {
		err = json.Unmarshal(text, &user)
	}
	if err != nil || user.ID != "42" || user.Name == "" || resp.StatusCode != http.StatusOK {
		t.Errorf("%s: %q, %v", resp.Status, text, err)
	}
	return string(text)
}

// A lockedWriter is a writer that several processes' logs may share.
type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (w lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.w.Write(b)
}
