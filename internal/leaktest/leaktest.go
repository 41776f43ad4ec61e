// Package leaktest fails a test binary that leaves goroutines behind. It is
// our own forty lines because the module that users import must not drag a
// test helper into their builds.
package leaktest

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Patience is how long goroutines may take to end after the last test: they
// were told to, but the scheduler owes nobody an instant.
const patience = 5 * time.Second

// Main runs the tests of m and exits: with their code, or with 1 if they
// passed and goroutines of this module are left. Call it from TestMain.
func Main(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if left := wait(patience); left != "" {
			fmt.Fprintf(os.Stderr, "goroutines left after all tests:\n\n%s\n", left)
			code = 1
		}
	}
	os.Exit(code)
}

// wait polls until no goroutine of the module is left or patience is over, and
// returns the stacks of those that are.
func wait(patience time.Duration) string {
	deadline := time.Now().Add(patience)
	for {
		left := leaked()
		if left == "" || time.Now().After(deadline) {
			return left
		}
		time.Sleep(10 * time.Millisecond) // real time: the goroutines are real
	}
}

// leaked returns the stacks of the goroutines, other than the caller's, that
// run or were started by code of this module.
func leaked() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var left []string
	for i, stack := range strings.Split(string(buf), "\n\n") {
		if i > 0 && strings.Contains(stack, "github.com/distributed-go/distributed") {
			left = append(left, stack)
		}
	}
	return strings.Join(left, "\n\n")
}
