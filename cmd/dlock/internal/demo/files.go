package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// increment adds one to the number in a file as naively as can be: it reads,
// and then it writes. Whoever does that at the same time destroys an increment.
func increment(file string) error {
	n, err := readNumber(file)
	if err != nil {
		return err
	}
	return writeNumber(file, n+1)
}

// writeNumber writes a number over the old one. It always has the same width,
// so that a file is never empty or mixed: without a lock increments get lost,
// and that is all.
func writeNumber(file string, n int) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintf(f, "%010d\n", n)
	return err
}

// readNumber reads the number in a file.
func readNumber(file string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// A guard is a file that protects itself: each write brings the fence of its
// writer's hold, and one with a smaller fence than was seen before comes from a
// holder who does not know yet that it lost the lock, and is refused.
type guard string

// errStale refuses a write whose fence is smaller than one seen before.
var errStale = errors.New("stale fence")

// guarded is what is in the file.
type guarded struct {
	Fence uint64 `json:"fence"`
	Text  string `json:"text"`
}

// read returns what the file says; a file that is not there says nothing.
func (g guard) read() (guarded, error) {
	text, err := os.ReadFile(string(g))
	if errors.Is(err, os.ErrNotExist) {
		return guarded{}, nil
	}
	if err != nil {
		return guarded{}, err
	}
	var now guarded
	err = json.Unmarshal(text, &now)
	return now, err
}

// write replaces the text, unless the fence is stale. The comparison and the
// write are one step for every process of this machine: that is the resource's
// own business, and no distributed lock can do it instead.
func (g guard) write(fence uint64, text string) error {
	f, err := os.OpenFile(string(g), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close() // which unlocks it too
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	var seen guarded
	old, err := io.ReadAll(f)
	if err == nil && len(old) > 0 {
		err = json.Unmarshal(old, &seen)
	}
	if err != nil {
		return err
	}
	if fence < seen.Fence {
		return fmt.Errorf("%w: %d, and %d was seen", errStale, fence, seen.Fence)
	}
	line, err := json.Marshal(guarded{Fence: fence, Text: text})
	if err != nil {
		return err
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt(line, 0)
	return err
}
