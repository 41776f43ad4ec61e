package dflockd

import (
	"errors"
	"io"
	"runtime"
	"time"

	"github.com/distributed-go/distributed/codec"
)

// keepLinkBuffer is keepBuffer for links, of which a program has few: all that
// the Client asks for at once when it resumes fits into it. Half a gigabyte would
// be allocated and thrown away for a million holds otherwise.
const keepLinkBuffer = 1 << 20

// A link is one connection of a conversation. Callers append requests; whoever
// finds nobody writing writes for all. One goroutine reads, always.
type link struct {
	transport
	number uint64        // by which the session.Client knows it
	gone   chan struct{} // closed when it has ended

	// Guarded by the mutex of the conversation.
	out      []byte
	spare    []byte // the buffer that was written last
	flushing bool   // somebody writes, or is about to
	heard    time.Duration

	// The server reads requests in their order, so an answer shows that it has
	// read everything up to the request. That is looked at for one request at
	// a time, the latest at its moment.
	sent   uint64 // bytes of requests in all
	read   uint64 // of them, what the server has surely read
	marked uint64 // the ID of the request that is looked at; 0 for none
	mark   uint64 // sent, behind it
}

// append appends a request to what is to be written.
func (l *link) append(r *codec.Request) {
	before := len(l.out)
	l.out = codec.AppendRequest(l.out, r)
	l.sent += uint64(len(l.out) - before)
	if l.marked == 0 {
		l.marked, l.mark = r.ID, l.sent
	}
}

// answered notes that the request with the ID was answered.
func (l *link) answered(id uint64) {
	if id != 0 && id >= l.marked {
		l.read, l.marked = max(l.read, l.mark), 0
	}
}

// claimLocked sees that what was appended is written. It returns true if the
// caller should do so, by flush, because that cannot block; else it is done in
// the background, or somebody is at it.
func (x *conversation) claimLocked(l *link) bool {
	if l.flushing || len(l.out) == 0 {
		return false
	}
	l.flushing = true
	if l.inline && l.sent-l.read < congested {
		return true
	}
	x.writeSoonLocked(l)
	return false
}

// writeSoonLocked may add to the WaitGroup: the link has not ended, so that run
// of the conversation is still counted.
func (x *conversation) writeSoonLocked(l *link) { x.srv.b.wg.Go(func() { x.write(l, false) }) }

// flush writes for all who come meanwhile; see conn.flush.
func (x *conversation) flush(l *link) {
	runtime.Gosched()
	x.write(l, true)
}

// write writes until nothing is left, or for a caller once; see conn.write.
func (x *conversation) write(l *link, once bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for len(l.out) > 0 && x.link == l {
		buf := l.out
		l.out, l.spare = l.spare[:0], nil
		x.mu.Unlock()
		_, err := l.nc.Write(buf)
		if err != nil {
			x.cut(l, err)
			x.mu.Lock()
			break
		}
		x.mu.Lock()
		if cap(buf) <= keepLinkBuffer {
			l.spare = buf
		}
		if once && len(l.out) > 0 && x.link == l {
			x.writeSoonLocked(l)
			return
		}
	}
	l.flushing = false
}

// listen is the link's reader. The answers that one read has brought are taken
// together: for a hundred callers that is one look at the clock and one turn at
// the mutex, and they are all woken before the first of them writes again.
func (x *conversation) listen(l *link) {
	var a codec.Answer
	for {
		err := l.answers.Read(&a)
		if err != nil {
			x.cut(l, err)
			return
		}
		now := x.clock()
		x.mu.Lock()
		l.heard = now
		ok := x.heardLocked(now, l, &a)
		for ok && l.answers.Ready() {
			ok = l.answers.Read(&a) == nil && x.heardLocked(now, l, &a)
		}
		x.hear(now)
		if !ok {
			x.cut(l, errUnfit)
			return
		}
	}
}

// heardLocked takes an answer. It returns false if the link is to be cut.
func (x *conversation) heardLocked(now time.Duration, l *link, a *codec.Answer) bool {
	l.answered(a.ID)
	return x.client.Line(now, l.number, a)
}

// hear is leave for the reader, which must not write: a server that waits for
// us to read would wait for it.
func (x *conversation) hear(now time.Duration) {
	if l := x.link; l != nil && !l.flushing && len(l.out) > 0 {
		l.flushing = true
		x.writeSoonLocked(l)
	}
	x.leave(now)
}

var (
	// errSilent and errUnfit are why a link is cut by this end.
	errSilent = errors.New("the server was silent for too long")
	errUnfit  = errors.New("the server sent what it should not, or refused a request of ours as such")
)

// cut ends a link that is up, and says why. What was asked waits for the next one.
func (x *conversation) cut(l *link, why error) {
	if errors.Is(why, io.EOF) {
		why = errClosedByServer
	}
	now := x.clock()
	x.mu.Lock()
	if x.unlinkLocked(now, l) {
		x.down, x.why = now, why
		x.attempt = &attempt{done: make(chan struct{})}
	}
	x.leave(now)
}

// unlinkLocked makes the conversation one without a link, if this is its link.
func (x *conversation) unlinkLocked(now time.Duration, l *link) bool {
	if x.link != l {
		return false
	}
	x.link = nil
	x.client.Cut(now, l.number)
	close(l.gone)
	return true
}

// close ends the connection of a link that has ended. Not through TLS, which
// would try to say goodbye for seconds.
func (l *link) close() { l.raw.Close() } //nolint:errcheck // nothing depends on it
