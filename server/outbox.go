package server

import (
	"errors"
	"io"
	"runtime"
	"sync"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/session"
)

const (
	// maxBacklog is how many bytes of memory what waits to be written may take
	// before nothing more is read from the connection. It is far more than a client
	// leaves unread by being busy, and little beside what its leases cost. A value
	// that many calls of one client wait for counts once: to read it that often
	// takes time, in which the client must be heard.
	maxBacklog = 256 << 10
	// maxReports is how many reports of statistics one connection may wait for
	// before nothing more is read from it.
	maxReports = 16
)

// errOver says that session mode ended the connection: a bye, a newer
// connection, silence, or a frame that could not be answered.
var errOver = errors.New("session mode ended the connection")

// An outbox is where the lines for a connection in session mode go. Anybody who
// changes the table puts lines in, with the mutex of the locks held, so that
// they are in the order in which the table changed; but only goroutines of the
// connection itself write them, so that a client that does not read harms nobody
// else. The connection's own goroutine writes the answers to what it has read,
// if the kernel takes them at once. For all else there is a goroutine while there
// is something to write: it takes all that there is each time, and the connection
// goes on reading meanwhile, because a client that is slow to read must still be
// heard.
type outbox struct {
	c     *conn
	stats func() codec.ServerStats
	run   func()  // is flush: a method value would be allocated for each go
	fast  *direct // nil where it cannot be; used by whoever has set flushing

	mu        sync.Mutex // nothing else is taken while it is held
	changed   sync.Cond  // something that is waited for may have happened
	lines     outlines   // guarded by mu, as is everything below
	spare     []byte     // the buffer that the text of lines alternates with
	report    []byte     // the next to be written after lines: too long to be copied
	unwritten int        // what lines count for, and those being written
	reports   []uint64   // the stats requests that have no report yet
	busy      bool       // the connection's goroutine will say rest before it reads
	flushing  bool       // there is a goroutine in flush, or the connection's in answer
	reporting bool       // there is a goroutine in makeReports
	over      bool       // the connection is to end
	err       error      // why nothing can be written any more
}

// newOutbox returns an outbox that is busy.
func newOutbox(c *conn, stats func() codec.ServerStats) *outbox {
	b := &outbox{c: c, stats: stats, busy: true, fast: newDirect(c.nc)}
	b.run, b.changed.L = b.flush, &b.mu
	return b
}

// take puts in what was collected of the base protocol.
func (b *outbox) take(out []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines.before(out)
	b.unwritten = b.lines.size
}

// Answer implements session.Outlet.
func (b *outbox) Answer(a *codec.Answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return
	}
	before := b.lines.size
	b.lines.add(a)
	b.unwritten += b.lines.size - before
	if !b.busy {
		b.start()
	}
}

// Close implements session.Outlet.
func (b *outbox) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	b.reports = nil
	b.changed.Broadcast()
	if !b.busy && !b.flushing {
		b.flushing = true
		go b.run()
	}
}

// Report implements session.Outlet. A goroutine makes the reports, because they
// can take seconds, in which beats must be heard.
func (b *outbox) Report(id uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reports = append(b.reports, id)
	if !b.reporting {
		b.reporting = true
		go b.makeReports()
	}
}

// start sees to it that what there is is written, with the mutex held.
func (b *outbox) start() {
	if !b.flushing && b.err == nil && (!b.lines.empty() || b.report != nil) {
		b.flushing = true
		go b.run()
	}
}

// work says that the connection's goroutine has requests at hand. Their answers
// are to leave together, when it says rest.
func (b *outbox) work() {
	b.mu.Lock()
	b.busy = true
	b.mu.Unlock()
}

// rest says that the connection's goroutine has nothing to do but to read, and
// returns when it may. The error says that it must end instead.
func (b *outbox) rest() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.busy = false
	b.answer()
	b.start()
	for b.err == nil && !b.over && (b.unwritten > maxBacklog || len(b.reports) > maxReports) {
		b.changed.Wait()
	}
	if b.err == nil && b.over {
		return errOver
	}
	return b.err
}

// answer writes what there is as far as that needs no waiting, with the mutex held,
// which it gives back meanwhile. It is for the connection's own goroutine.
func (b *outbox) answer() {
	if b.fast == nil || b.flushing || b.err != nil || b.lines.empty() || len(b.lines.values) > 0 {
		return
	}
	b.flushing = true
	text := b.swap().text
	b.mu.Unlock()
	b.c.setWriteDeadline(b.c.clock()) // one that has passed would be an error
	n, err := b.fast.write(text)
	b.mu.Lock()
	b.flushing = false
	b.unwritten -= n
	switch {
	case err != nil:
		b.fail(&writeError{err})
	case n < len(text):
		b.lines.before(text[n:])
	default:
		b.keep(text)
	}
}

// swap takes all lines out, with the mutex held.
func (b *outbox) swap() outlines {
	lines := b.lines
	b.lines, b.spare = outlines{text: b.spare}, nil
	return lines
}

// keep keeps a buffer that was written for the lines to come, with the mutex held.
func (b *outbox) keep(text []byte) {
	if cap(text) <= 2*keepOut {
		b.spare = text[:0]
	}
}

// flush writes until there is nothing left, or until the connection's goroutine
// is at work, whose lines it would tear apart. What was there when it began it
// writes in any case, or else requests that keep coming would hold up answers.
func (b *outbox) flush() {
	runtime.Gosched() // who can run now may have more to say
	b.mu.Lock()
	for first := true; b.err == nil && (first || !b.busy) && (!b.lines.empty() || b.report != nil); first = false {
		lines, report := b.swap(), b.report
		b.report = nil
		b.mu.Unlock()
		err := lines.each(b.write)
		if err == nil {
			err = eachPart(report, b.writeReport)
		}
		b.mu.Lock()
		b.keep(lines.text)
		if err != nil {
			b.fail(err)
		}
		b.changed.Broadcast()
	}
	b.flushing = false
	end := b.err != nil || b.over
	b.changed.Broadcast()
	b.mu.Unlock()
	if end {
		b.c.stop()
	}
}

// write writes a part, which must leave within the write timeout.
func (b *outbox) write(part []byte, size int) error {
	err := b.writeReport(part, 0)
	if err == nil {
		b.mu.Lock()
		b.unwritten -= size
		b.mu.Unlock()
		b.changed.Broadcast()
	}
	return err
}

// writeReport is write for what is not counted.
func (b *outbox) writeReport(part []byte, _ int) error {
	b.c.setWriteDeadline(b.c.clock())
	if _, err := b.c.nc.Write(part); err != nil {
		return &writeError{err}
	}
	return nil
}

// fail gives up what was not written, with the mutex held.
func (b *outbox) fail(err error) {
	if b.err == nil {
		b.err = err
	}
	b.lines, b.report, b.reports = outlines{}, nil, nil
	b.changed.Broadcast()
}

// makeReports makes the reports that were asked for, one after the other.
func (b *outbox) makeReports() {
	for {
		b.mu.Lock()
		for b.report != nil {
			b.changed.Wait()
		}
		if len(b.reports) == 0 {
			b.reporting = false
			b.changed.Broadcast()
			b.mu.Unlock()
			return
		}
		id := b.reports[0]
		b.reports = b.reports[1:]
		b.changed.Broadcast()
		b.mu.Unlock()
		line := codec.AppendAnswer(nil, &codec.Answer{ID: id, Status: codec.OK, JSON: b.stats().JSON()})
		b.mu.Lock()
		if b.err == nil && !b.over {
			b.report = line
			if !b.busy {
				b.start()
			}
		}
		b.mu.Unlock()
	}
}

// finish is called when the connection's goroutine ends with err and no line
// comes any more. It returns when no goroutine is left: with what was said
// written where somebody may still read. The error is what ended the connection.
func (b *outbox) finish(err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil && err != errOver && err != errStopped && err != io.EOF && err != io.ErrUnexpectedEOF {
		b.fail(err)
		b.c.raw.Close() //nolint:errcheck // there is nothing to do about it
	}
	b.busy = false
	b.start()
	for b.flushing || b.reporting {
		b.changed.Wait()
	}
	if b.err != nil {
		return b.err
	}
	return err
}

var _ session.Outlet = (*outbox)(nil)
