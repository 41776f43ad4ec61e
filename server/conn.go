package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/distributed-go/distributed/codec"
)

const (
	// flushAt is how many bytes of answers are collected at most before they
	// are written, and how many must leave within the write timeout.
	flushAt = 16 << 10
	// keepOut is the largest answer buffer that is kept: a report can be large.
	keepOut = 2 * flushAt
	// Those whose connection the server closes may still be sending. Closing
	// at once would reset the connection, and they would never read why, nor the
	// answers before it: at a stop, grants that nobody hears of. So it waits, but
	// not for long.
	lingerTime  = 250 * time.Millisecond
	lingerBytes = 4 << 20
)

// What ends a connection, beside the errors of the network.
var (
	errReadTimeout = errors.New("no complete request within the read timeout")
	errStopped     = errors.New("the server stops")
	errAuth        = errors.New("authentication refused")
)

// A conn is the transport of one connection: it reads, collects answers and
// writes them, each in time. All of it belongs to the connection's goroutine,
// but for wake, stop and kill.
type conn struct {
	nc       net.Conn             // over TLS, if it is spoken
	raw      net.Conn             // without
	clock    func() time.Duration // since the server's start, pauses included
	pauses   func(look bool) time.Duration
	cfg      *Config
	requests *codec.RequestReader // reads from the conn itself
	out      []byte               // answers that were not written yet
	box      *outbox              // takes the place of out in session mode; nil before
	pause    func()               // is called before reading in session mode

	due           time.Duration // when the next request must be complete
	fresh         bool          // due is to be counted from the next read on
	paused        time.Duration // the pauses of the server up to when due was set
	readDeadline  time.Duration // what nc was told last; 0 to tell it again
	writeDeadline time.Duration // what nc was told last

	waiting bool          // Read returns when it is woken
	woken   chan struct{} // has room for one; full after wake
	stopped atomic.Bool   // set by stop
}

func newConn(nc net.Conn, cfg *Config, k *locks) *conn {
	c := &conn{nc: nc, raw: nc, clock: k.now, pauses: k.pauses, cfg: cfg, woken: make(chan struct{}, 1)}
	if tc, ok := nc.(*tls.Conn); ok {
		c.raw = tc.NetConn()
	}
	c.requests = codec.NewRequestReader(c)
	return c
}

// next reads the next request within the read timeout. Beside the errors of
// codec.RequestReader it returns errReadTimeout, errStopped, and errors of
// writing the answers before it.
func (c *conn) next(r *codec.Request) error {
	c.fresh = true
	return c.requests.Read(r)
}

// answer collects an answer. The error is one of writing those before it.
func (c *conn) answer(a *codec.Answer) error {
	c.out = codec.AppendAnswer(c.out, a)
	if len(c.out) < flushAt {
		return nil
	}
	return c.flush(c.clock())
}

// Read writes what was answered and then reads. It is the reader under
// c.requests, and so it runs just when all that was received has been dealt
// with: the answers to requests that came together leave together.
func (c *conn) Read(p []byte) (int, error) {
	if c.box != nil {
		return c.readFrames(p)
	}
	now := c.clock()
	if err := c.flush(now); err != nil {
		return 0, err
	}
	if c.fresh {
		c.fresh = false
		c.due, c.paused = now+c.cfg.ReadTimeout, c.pauses(false)
	}
	for {
		if c.readDeadline == 0 {
			c.setReadDeadline(now)
		}
		// After the deadline was set and before the read: whoever wakes the
		// connection sets the deadline last, so one of the two notices.
		if c.waiting && len(c.woken) > 0 {
			return 0, os.ErrDeadlineExceeded // first, for there may be an answer
		}
		if c.stopped.Load() {
			return 0, errStopped
		}
		n, err := c.nc.Read(p)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		c.readDeadline = 0
		if now = c.clock(); !c.waiting && now >= c.due {
			// What came while the server was stopped could not be read.
			paused := c.pauses(true)
			if c.due += paused - c.paused; now >= c.due {
				return 0, errReadTimeout
			}
			c.paused = paused
		}
		// A deadline that was left from an earlier request, or from somebody
		// who woke the connection for something that it saw by itself.
	}
}

// setReadDeadline sets a deadline that is good for this request and, as it is
// not moved for every request, may come too early for later ones. While the
// connection waits, none is needed, and an early one does no harm.
func (c *conn) setReadDeadline(now time.Duration) {
	at := c.due
	if c.waiting {
		at = now + c.cfg.ReadTimeout
	}
	c.readDeadline = at
	c.nc.SetReadDeadline(time.Now().Add(at - now)) //nolint:errcheck // a dead connection says so when it is read
}

// flush writes the answers that were collected, as long as each part of them
// leaves within the write timeout.
func (c *conn) flush(now time.Duration) error {
	out := c.out
	c.out = out[:0]
	if cap(out) > keepOut {
		c.out = nil
	}
	for len(out) > 0 {
		part := out[:min(len(out), flushAt)]
		c.setWriteDeadline(now)
		if _, err := c.nc.Write(part); err != nil {
			return &writeError{err}
		}
		if out = out[len(part):]; len(out) > 0 {
			now = c.clock()
		}
	}
	return nil
}

// setWriteDeadline gives the next write the write timeout, and up to a tenth
// more, so that the deadline need not be moved for every write.
func (c *conn) setWriteDeadline(now time.Duration) {
	timeout := c.cfg.WriteTimeout
	if c.writeDeadline-now >= timeout {
		return
	}
	c.writeDeadline = now + timeout + timeout/10
	c.nc.SetWriteDeadline(time.Now().Add(c.writeDeadline - now)) //nolint:errcheck // a dead connection says so when it is written
}

// A writeError is what ended a write. It hides that it was a timeout: that of
// a read means something else.
type writeError struct{ err error }

func (e *writeError) Error() string { return "write: " + e.err.Error() }

// await reads ahead until somebody wakes the connection, and returns nil then,
// or what ended the connection before. Waking may be a mistake: look again.
//
// A client that has sent codec.MaxAhead bytes behind the request that waits is
// not read any further until that is answered, and then its end goes unnoticed
// meanwhile: the alternative would be to keep all that it sends.
func (c *conn) await() error {
	c.waiting = true
	defer func() { c.waiting, c.readDeadline = false, 0 }()
	for {
		select {
		case <-c.woken:
			return nil
		default:
		}
		switch err := c.requests.Fill(); {
		case err == nil, errors.Is(err, os.ErrDeadlineExceeded):
		case errors.Is(err, codec.ErrFull):
			if err := c.flush(c.clock()); err != nil {
				return err
			}
			<-c.woken
			return nil
		default:
			return err
		}
	}
}

// wake makes await return, now or when it is called next. It is safe for
// concurrent use and does not block.
func (c *conn) wake() {
	select {
	case c.woken <- struct{}{}:
	default:
	}
	c.nc.SetReadDeadline(longAgo) //nolint:errcheck // a dead connection needs no waking
}

// longAgo is a deadline that ends a read at once.
var longAgo = time.Unix(1, 0)

// stop ends the connection as soon as it has answered all that it received and
// waits for nothing. It is safe for concurrent use and does not block.
func (c *conn) stop() {
	c.stopped.Store(true)
	c.wake()
}

// kill ends the connection at once, whatever it is doing. It is safe for
// concurrent use. It does not go through TLS, which would try to say goodbye
// for seconds.
func (c *conn) kill() {
	c.stopped.Store(true)
	c.raw.Close() //nolint:errcheck // there is nothing to do about it
	c.wake()
}

// handshake completes the TLS handshake within the read timeout.
func (c *conn) handshake() error {
	tc, ok := c.nc.(*tls.Conn)
	if !ok {
		return nil
	}
	tc.SetDeadline(time.Now().Add(c.cfg.ReadTimeout)) //nolint:errcheck // a dead connection says so when it is read
	if c.stopped.Load() {                             // after the deadline was set, as in Read
		return errStopped
	}
	if err := tc.Handshake(); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	return tc.SetDeadline(time.Time{})
}

// finish writes what is left to say and closes the connection, which ended with
// err. Where it was the server that ended it, the client gets a moment to read.
func (c *conn) finish(err error) {
	if c.box != nil {
		err = c.box.finish(err)
	}
	switch {
	case errors.Is(err, codec.ErrTooLong), err == errReadTimeout:
		c.out = codec.AppendAnswer(c.out, &codec.Answer{Status: codec.Failed})
	case err == errAuth, err == errStopped, err == errOver:
	default:
		var failed *writeError
		if errors.As(err, &failed) {
			c.raw.Close() //nolint:errcheck // there is nothing to do about it
		}
		c.nc.Close() //nolint:errcheck // there is nothing to do about it
		return
	}
	if c.flush(c.clock()) == nil {
		c.linger()
	}
	c.nc.Close() //nolint:errcheck // there is nothing to do about it
}

// free gives up the buffers of a connection that has ended: leases that are kept
// over its end remember whose they were.
func (c *conn) free() { c.requests, c.out, c.box, c.pause = nil, nil, nil, nil }

// linger tells the client that nothing more will come, and gives it a moment to
// read that.
func (c *conn) linger() {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.nc.SetReadDeadline(time.Now().Add(lingerTime)) //nolint:errcheck // a dead connection is what it waits for
	io.CopyN(io.Discard, c.nc, lingerBytes)          //nolint:errcheck // whatever ends it, it is over
}
