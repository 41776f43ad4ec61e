package once

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"
)

const (
	// maxMessage is how much of an error's text other processes are told.
	maxMessage = 4 << 10

	// maxProgram is how much of a program's name is told.
	maxProgram = 64
)

// A Mark says that something is done.
type Mark struct {
	By          string    `json:"by"`                    // who did it: host/pid/program
	At          time.Time `json:"at"`                    // when, by the clock of who did it
	Fence       uint64    `json:"fence,omitempty"`       // of the lease that it was done under; 0 if it had none
	Fingerprint string    `json:"fingerprint,omitempty"` // as WithFingerprint gave it
	Expires     time.Time `json:"expires,omitzero"`      // by the clock of who did it; zero for never
}

// A record is what is kept of a run: its header is a line of JSON, and what the
// function returned comes after it.
type record struct {
	Mark
	// Run tells this run from all others. Fences could not: a backend may have
	// none.
	Run      string `json:"run"`
	Failed   string `json:"failed,omitempty"` // the text of the error, of a Group
	Panicked bool   `json:"panicked,omitempty"`

	data []byte        // what the function returned
	age  time.Duration // as the source knows it
	err  error         // why it cannot be read; the rest means nothing then
}

// errUnreadable says that something else than a record is under a key.
var errUnreadable = errors.New("what is under the key is no record of this package")

func newRecord(fence uint64, now time.Time) *record {
	return &record{Mark: Mark{By: self(), At: now, Fence: fence}, Run: rand.Text()}
}

// bytes returns the record as it is kept, and how many of them are not data.
func (r *record) bytes() (all []byte, header int, err error) {
	head, err := json.Marshal(r)
	if err != nil {
		return nil, 0, err
	}
	head = append(head, '\n')
	return append(head, r.data...), len(head), nil
}

// readRecord reads what is kept. It never fails: a record that cannot be read says
// so.
func readRecord(b []byte) *record {
	head, data, ok := bytes.Cut(b, []byte{'\n'})
	r := new(record)
	if !ok {
		return &record{err: errUnreadable}
	}
	if err := json.Unmarshal(head, r); err != nil {
		return &record{err: fmt.Errorf("%w: %w", errUnreadable, err)}
	}
	if r.Run == "" {
		return &record{err: errUnreadable}
	}
	r.data = data
	return r
}

// fail makes a record of an error, of as much of its text as room has place for.
func (r *record) fail(err error, room int) *record {
	failed := *r
	var p *PanicError
	switch {
	case errors.As(err, &p):
		failed.Failed = fmt.Sprintf("%v: %v", ErrLeaderPanicked, p.Value) // its stack is nothing for others
	default:
		failed.Failed = err.Error()
	}
	failed.Panicked = errors.Is(err, ErrLeaderPanicked)
	failed.data = nil
	text := failed.Failed[:min(len(failed.Failed), maxMessage)]
	if text == "" {
		text = "an error without a text"
	}
	if failed.says(text) > room { // some characters take more bytes in a record than in a text
		failed.says(text[:sort.Search(len(text), func(n int) bool { return failed.says(text[:n+1]) > room })])
	}
	return &failed
}

// says sets the text of an error and returns how large the record is.
func (r *record) says(text string) (size int) {
	r.Failed = strings.ToValidUTF8(text, "")
	if r.Failed == "" {
		r.Failed = "?" // it is an error all the same
	}
	_, size, _ = r.bytes() // of text and numbers, which JSON has
	return size
}

// remote returns the error that the record is of, or nil.
func (r *record) remote() error {
	if r.Failed == "" {
		return nil
	}
	return &RemoteError{By: r.By, Message: r.Failed, Panicked: r.Panicked}
}

// self is what this process is called in marks.
var self = sync.OnceValue(func() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	program := "unknown"
	if len(os.Args) > 0 {
		program = filepath.Base(os.Args[0])
	}
	return fmt.Sprintf("%s/%d/%s", host, os.Getpid(), program[:min(len(program), maxProgram)])
})
