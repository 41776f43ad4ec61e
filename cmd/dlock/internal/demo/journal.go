package demo

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// A Record is a line of the journal: something that a process did. A worker
// writes that it entered after it was given the lock, and that it leaves before
// it gives the lock back; so if the records of two overlap, so did they.
type Record struct {
	// Worker is who wrote it: 0 is the demo itself.
	Worker int `json:"worker"`
	// Event is what happened; see the constants.
	Event string `json:"event"`
	// Key is what it happened to.
	Key string `json:"key,omitempty"`
	// Fence is the fence of the hold, 0 if there is none.
	Fence uint64 `json:"fence,omitempty"`
	// N is how often.
	N int `json:"n,omitempty"`
	// Err is what went wrong.
	Err string `json:"err,omitempty"`

	// At is when the demo read it, by its own clock, since the stage was set.
	// It is later than the event, never earlier.
	At time.Duration `json:"-"`
}

// The events of the journal.
const (
	evReady    = "ready"    // the worker runs
	evAsks     = "asks"     // it is about to ask for the lock
	evEnter    = "enter"    // it was given the lock
	evExit     = "exit"     // it is about to give it back
	evDone     = "done"     // it has done what it was told, N times
	evQueued   = "queued"   // it has a place in the queue
	evAcquired = "acquired" // it asked for a place and was given the lock
	evChecked  = "checked"  // it checked its lease; Err is lost, if it is
	evWrote    = "wrote"    // the guarded file took its write
	evRefused  = "refused"  // the guarded file refused its write
	evGot      = "got"      // it has what it asked for: a value, N, or a mark
	evFailed   = "failed"   // it could not do what it was told

	evKill = "kill" // the demo is about to kill a worker, N
	evStop = "stop" // it is about to stop one
	evWake = "wake" // it is about to continue one
)

// A journal is a pipe that all processes of a stage write to. One write of one
// short line is never torn, and lines come out in the order in which they went
// in: so the kernel orders what happened, across processes, and nobody has to
// compare clocks.
type journal struct {
	began time.Time
	w     *os.File
	ended chan struct{} // closed when the reader has ended

	mu      sync.Mutex
	records []Record      // guarded by mu
	err     error         // why reading ended; guarded by mu
	more    chan struct{} // closed, and replaced, with each new record; guarded by mu
}

func newJournal() (*journal, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	j := &journal{began: time.Now(), w: w, ended: make(chan struct{}), more: make(chan struct{})}
	go func() {
		defer close(j.ended)
		defer r.Close()
		j.read(r)
	}()
	return j, nil
}

// read takes records in until every writer has closed its end.
func (j *journal) read(r *os.File) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var rec Record
		err := json.Unmarshal(lines.Bytes(), &rec)
		rec.At = time.Since(j.began)
		j.mu.Lock()
		if err == nil {
			j.records = append(j.records, rec)
		} else if j.err == nil {
			j.err = fmt.Errorf("journal: %q: %w", lines.Text(), err)
		}
		close(j.more)
		j.more = make(chan struct{})
		j.mu.Unlock()
	}
}

// note writes a record of the demo itself, in its place among the others'.
func (j *journal) note(r Record) error { return r.write(j.w) }

// write writes a record in one piece.
func (r Record) write(w *os.File) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	const piece = 512 // POSIX allows no smaller limit for an undivided write
	if len(line) >= piece {
		return errors.New("record is too long for one write: " + string(line[:80]))
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// since returns the records from the i-th on, and a channel that is closed when
// there are more.
func (j *journal) since(i int) ([]Record, <-chan struct{}, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.records[min(i, len(j.records)):len(j.records):len(j.records)], j.more, j.err
}

// close ends the journal; the workers must have ended.
func (j *journal) close() {
	j.w.Close()
	<-j.ended
}
