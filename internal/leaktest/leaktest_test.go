package leaktest

import (
	"strings"
	"testing"
	"time"
)

func TestLeakedSeesAGoroutineOfThisModule(t *testing.T) {
	if left := wait(time.Second); left != "" {
		t.Fatalf("before anything was started:\n%s", left)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go blockUntil(stop, stopped)
	if left := leaked(); !strings.Contains(left, "leaktest_test.go") {
		t.Fatalf("the blocked goroutine is missing:\n%s", left)
	}
	close(stop)
	<-stopped
	if left := wait(time.Second); left != "" {
		t.Fatalf("after it ended:\n%s", left)
	}
}

func blockUntil(stop <-chan struct{}, stopped chan<- struct{}) {
	defer close(stopped)
	<-stop
}
