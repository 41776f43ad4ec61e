//go:build unix

package witness

import (
	"bufio"
	"fmt"
	"net"
	"time"
)

// A Lane is one goroutine of a process that takes locks, and writes down what it
// believes. Set the fields before its first use.
type Lane struct {
	Recorder *Recorder
	// Who is the process and the lane, Key what it takes.
	Who, Key string
	// Look is the time from one Check to the next, 0 is a millisecond. Tell is
	// how often a holder writes down that it believes, 0 is 10 ms.
	Look, Tell time.Duration
	// Store is the address of what is written to after each Check and a pause as
	// long as Look; none if empty. That it refuses is its business, and calls
	// Refused.
	Store   string
	Refused func()

	conn    net.Conn
	answers *bufio.Reader
}

// Note writes a record of the lane down.
func (l *Lane) Note(what string, fence uint64, at int64) error {
	return l.Recorder.Write(Record{What: what, Who: l.Who, Key: l.Key, Fence: fence, At: at})
}

// Believe holds from an instant on, until the hold is over, as its callback says,
// or check fails. It writes down the last instant before a check that returned
// nil, and says whether there was one that did not.
func (l *Lane) Believe(check func() error, fence uint64, at int64, over func(now int64) bool) (lost bool, err error) {
	believed, told := at, at
	for {
		now := Monotonic()
		if check() != nil {
			return true, l.Note("gone", 0, believed)
		}
		believed = now
		if over(now) {
			return false, l.Note("leave", 0, believed)
		}
		if now-told >= int64(max(l.Tell, 10*time.Millisecond)) {
			told = now
			if err := l.Note("alive", 0, now); err != nil {
				return false, err
			}
		}
		time.Sleep(max(l.Look, time.Millisecond)) // real time: this is where a holder works, and is stopped
		if l.Store != "" && fence > 0 {
			l.put(fence)
		}
	}
}

// put writes to the store as holders do who have just checked.
func (l *Lane) put(fence uint64) {
	if l.conn == nil {
		conn, err := net.Dial("tcp", l.Store)
		if err != nil {
			return // the test is over
		}
		l.conn, l.answers = conn, bufio.NewReader(conn)
	}
	_, err := fmt.Fprintf(l.conn, "%s %d\n", l.Key, fence)
	if err != nil {
		return
	}
	if answer, _ := l.answers.ReadString('\n'); answer == "stale\n" {
		l.Refused()
	}
}
