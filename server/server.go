package server

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// ErrServerClosed is what Serve returns after Shutdown or Close.
var ErrServerClosed = errors.New("server: closed")

// A Server is a lock server. Make one with New; all its methods are safe for
// concurrent use. It costs nothing until connections come, so that one that was
// never used need not be closed, unless it has a data directory.
type Server struct {
	cfg   Config
	locks *locks
	guard *guard      // nil without a secret
	tls   *tls.Config // nil without TLS

	reports chan struct{} // full while somebody makes a report
	closing chan struct{} // closed when no connection is accepted any more
	gone    chan struct{} // closed when, after that, none is left

	mu        sync.Mutex
	listeners map[net.Listener]struct{} // guarded by mu, as is everything below
	members   map[*conn]*member
	slots     int    // the connections that count to the cap
	lastID    uint64 // of a connection
}

// A member is what the server knows of a connection.
type member struct {
	id      uint64
	slot    bool    // it counts to the cap
	handler handler // nil before it is authenticated
}

// A handler speaks one protocol on one connection.
type handler interface {
	// serve answers until the connection ends and returns why it did.
	serve() error
	// end gives up what the connection waits for and, unless keepHeld, holds.
	end(keepHeld bool)
	// drain gives up what the connection waits for, with the mutex of the
	// locks held, and says whether to call wake once it is not.
	drain(now time.Duration) bool
	wake()
}

// New returns a server that is ready to serve. The error names the field of the
// Config that cannot be right, or the file that cannot be read.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	secret, err := cfg.loadSecret()
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, reports: make(chan struct{}, 1), closing: make(chan struct{}), gone: make(chan struct{}),
		listeners: make(map[net.Listener]struct{}), members: make(map[*conn]*member),
	}
	if s.tls, err = cfg.loadTLS(); err != nil {
		return nil, err
	}
	if s.guard, err = newGuard(secret); err != nil {
		return nil, err
	}
	if s.locks, err = newLocks(cfg); err != nil { // the last, because it may need to be closed
		return nil, err
	}
	return s, nil
}

// ServeConn serves one connection, which it closes, and returns when that has
// ended. Where the server has TLS, it is spoken on the connection, unless it is
// a *tls.Conn already. Deadlines of the connection must work, and setting them
// must not block and be safe for concurrent use, as it is on all of package net,
// net.Pipe included.
func (s *Server) ServeConn(nc net.Conn) {
	if c := s.admit(nc); c != nil {
		s.run(c)
	}
}

// admit registers a connection, or closes it and returns nil.
func (s *Server) admit(nc net.Conn) *conn {
	transport := nc
	if _, ok := nc.(*tls.Conn); !ok && s.tls != nil {
		transport = tls.Server(nc, s.tls)
	}
	c := newConn(transport, &s.cfg, s.locks)
	if s.register(c) {
		return c
	}
	s.debug("connection refused", "remote", nc.RemoteAddr())
	nc.Close() //nolint:errcheck // there is nothing to do about it
	return nil
}

// register makes the connection a member, unless there are too many or none is
// taken any more.
func (s *Server) register(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	full := s.cfg.MaxConnections > 0 && s.slots >= s.cfg.MaxConnections
	if full || s.isClosing() {
		return false
	}
	s.lastID++
	s.slots++
	s.members[c] = &member{id: s.lastID, slot: true}
	return true
}

// run serves a connection that was admitted, to its end.
func (s *Server) run(c *conn) {
	id := s.enter(c, nil)
	s.debug("connection opened", "conn", id, "remote", c.nc.RemoteAddr())
	keepAlive(c.raw)
	err := c.handshake()
	if err == nil {
		err = s.authenticate(c)
	}
	if err == nil {
		h := newBase(c, s.locks, id, s.Stats)
		if err = s.speak(c, h); err == errHello {
			err = s.speak(c, h.framed)
		}
	}
	s.giveSlot(c)
	c.finish(err)
	c.free()
	s.debug("connection closed", "conn", id, "why", err)
	s.remove(c)
}

// speak has a handler serve the connection.
func (s *Server) speak(c *conn, h handler) error {
	s.enter(c, h)
	err := h.serve()
	// Before the connection closes: who sees that finds the locks free.
	h.end(s.cfg.KeepOnDisconnect)
	return err
}

// enter sets the handler of a connection and returns its number.
func (s *Server) enter(c *conn, h handler) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[c]
	m.handler = h
	return m.id
}

// giveSlot makes room for another connection. It may be called twice.
func (s *Server) giveSlot(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.members[c]; m.slot {
		m.slot = false
		s.slots--
	}
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.members, c)
	if len(s.members) == 0 && s.isClosing() {
		close(s.gone)
	}
}

func (s *Server) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

func (s *Server) debug(msg string, args ...any) {
	if s.cfg.Debug {
		s.cfg.Logger.Debug(msg, args...)
	}
}

// keepAlive makes the kernel notice, within a minute, a client that vanished
// without a word while it waits for a lock: the read timeout does not run then.
func keepAlive(nc net.Conn) {
	if tc, ok := nc.(*net.TCPConn); ok {
		tc.SetKeepAliveConfig(net.KeepAliveConfig{ //nolint:errcheck // worse only for a client that vanishes
			Enable: true, Idle: 15 * time.Second, Interval: 10 * time.Second, Count: 4,
		})
	}
}

var (
	_ io.Reader = (*conn)(nil)
	_ handler   = (*base)(nil)
	_ party     = (*base)(nil)
)
