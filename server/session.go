package server

import (
	"crypto/rand"
	"errors"
	"os"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/session"
	"github.com/distributed-go/distributed/internal/table"
)

// errHello ends the base protocol on a connection, which goes on in session
// mode.
var errHello = errors.New("the connection changes to session mode")

// framed is session mode on one connection: it carries frames to the
// session.Server of the locks and its lines, through the outbox, back. All of it
// belongs to the connection's goroutine, but for what the mutex of the locks
// guards and for the outbox.
type framed struct {
	*conn
	locks *locks
	box   *outbox
	link  *session.Link // guarded by locks.mu
	id    codec.SessionID
	watch *watch // nil for none

	// While at is not 0, the goroutine has the mutex of the locks, since that
	// instant and for so many requests.
	at   time.Duration
	done int
}

// maxRound is how many requests may be carried out before the mutex is given to
// others, for about 50 us.
const maxRound = 64

// hello asks for session mode. The framed is nil if the answer refuses it; if
// not, the answer is in its outbox, behind all that was said before.
func (b *base) hello(r *codec.Request) (*framed, codec.Answer) {
	f := &framed{conn: b.conn, locks: b.locks, box: newOutbox(b.conn, b.stats)}
	var a codec.Answer
	f.watch = b.locks.deaths.greet(b.raw, r.Hello.Process, func() (codec.SessionID, bool) {
		now := b.locks.enter()
		defer b.locks.leave(now)
		f.link, a = b.locks.sessions.Hello(now, b.owner.ID(), r.Hello, f.box)
		if f.link != nil {
			f.box.take(b.out)
			f.box.Answer(&a)
		}
		return a.Session, f.link != nil
	})
	if f.link == nil {
		return nil, a
	}
	f.id = a.Session
	b.out, b.box = nil, f.box
	return f, a
}

// serve carries out frames until the connection ends, and returns why it did.
func (f *framed) serve() error {
	f.requests.Frames(codec.ArgumentFor(f.conn.cfg.MaxValue))
	f.conn.pause = f.leave
	defer f.leave()
	f.nc.SetReadDeadline(time.Time{}) //nolint:errcheck // a dead connection says so when it is read
	var r codec.Request
	for {
		err := f.requests.Read(&r)
		switch {
		case err == nil:
			f.request(&r)
		case errors.Is(err, codec.ErrMalformed):
			f.malformed(r.ID)
		case errors.Is(err, codec.ErrTooLong):
			f.malformed(0)
			return errOver
		default:
			return err
		}
	}
}

// enter takes the mutex of the locks, for all requests that one read brought:
// leave gives it back before the next.
func (f *framed) enter() {
	if f.done >= maxRound {
		f.leave()
	}
	f.done++
	if f.at == 0 {
		f.at = f.locks.enter()
	}
}

// leave gives the mutex back, if the goroutine has it.
func (f *framed) leave() {
	if now := f.at; now != 0 {
		f.at, f.done = 0, 0
		f.locks.leave(now)
	}
}

func (f *framed) request(r *codec.Request) {
	f.enter()
	f.locks.sessions.Request(f.at, f.link, r)
}

// malformed deals with a frame that cannot be carried out. Without an ID, which
// is 0 then, it is the end of the link.
func (f *framed) malformed(id uint64) {
	f.enter()
	f.locks.sessions.Malformed(f.at, f.link, id)
}

// end implements handler. What a session holds outlives its connections anyway.
func (f *framed) end(bool) {
	now := f.locks.enter()
	f.locks.sessions.Closed(now, f.link)
	known := f.locks.sessions.Knows(f.id)
	f.locks.leave(now)
	f.locks.deaths.disconnected(f.id, f.watch, known)
}

// drain implements handler: the session.Server has given up what its sessions
// wait for already.
func (f *framed) drain(time.Duration) bool { return false }

// readFrames is Read in session mode: there is no read timeout, because it is
// the session.Server that ends silent connections.
func (c *conn) readFrames(p []byte) (int, error) {
	c.pause()
	for {
		if err := c.box.rest(); err != nil {
			return 0, err
		}
		if c.stopped.Load() {
			return 0, errStopped
		}
		n, err := c.nc.Read(p)
		c.box.work()
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		// To stop, or left from before the hello.
		c.nc.SetReadDeadline(time.Time{}) //nolint:errcheck // a dead connection says so when it is read
	}
}

// newSessions returns the sessions over the table of the locks.
func newSessions(k *locks, ttl time.Duration) *session.Server {
	cfg := session.ServerConfig{
		Table: k.table, TTL: ttl, Happened: k.happened, Values: true,
		Forced: func(by string, over session.Outlet, kind table.Kind, key string, ended int) {
			k.forced(revocation{kind, key, ended, by, over.(*outbox).c.nc.RemoteAddr()})
		},
		NewID: func() (id codec.SessionID) {
			rand.Read(id[:]) //nolint:errcheck // it never fails: the program ends instead
			return id
		},
	}
	if k.disk != nil {
		cfg.Offers = []byte(codec.OfferDurable)
		cfg.Persist = k.persist
		cfg.Admit = func(ttl time.Duration, fences int) session.Verdict { return verdict(k.admit(ttl, fences)) }
		cfg.Keep = func(l *table.Lease, ttl time.Duration) session.Verdict { return verdict(k.keep(l, ttl)) }
	}
	return session.NewServer(cfg)
}

var _ handler = (*framed)(nil)
