package stocktest

import (
	"net"
	"sync"
	"time"
)

// A Config sets what a stock server's flags set. The zero Config has its
// defaults.
type Config struct {
	// DefaultTTL is the lease of those who ask for none; 0 is 33 s.
	DefaultTTL time.Duration
	// ReadTimeout is how long each line may take; 0 is 23 s.
	ReadTimeout time.Duration
	// Sweep is how often leases that ran out are collected; 0 is 1 s.
	Sweep time.Duration
	// Keep leaves the leases of a connection that closes to run out, and
	// those who queued on it in the queue.
	Keep bool
}

// A Server is a lock server. New makes one. It is safe for concurrent use.
type Server struct {
	cfg  Config
	done chan struct{} // closed by Close
	wg   sync.WaitGroup

	mu        sync.Mutex // guards everything below
	closed    bool
	listeners map[net.Listener]struct{}
	conns     map[*client]struct{}
	keys      map[string]*entry
}

// New returns a server that serves what it is given.
func New(cfg Config) *Server {
	if cfg.DefaultTTL == 0 {
		cfg.DefaultTTL = 33 * time.Second
	}
	if cfg.ReadTimeout == 0 {
		cfg.ReadTimeout = 23 * time.Second
	}
	if cfg.Sweep == 0 {
		cfg.Sweep = time.Second
	}
	s := &Server{
		cfg: cfg, done: make(chan struct{}),
		listeners: make(map[net.Listener]struct{}), conns: make(map[*client]struct{}), keys: make(map[string]*entry),
	}
	s.wg.Go(s.sweep)
	return s
}

// A TB is the part of testing.TB that Start needs.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Start serves on a free port of the loopback until the test ends, and returns
// the server and its address.
func Start(tb TB, cfg Config) (s *Server, addr string) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("stocktest: %v", err)
	}
	s = New(cfg)
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.Serve(l)
	}()
	tb.Cleanup(func() {
		s.Close()
		<-served
	})
	return s, l.Addr().String()
}

// Serve accepts connections until the listener fails or the server is closed.
// It closes the listener.
func (s *Server) Serve(l net.Listener) {
	defer l.Close() //nolint:errcheck // it is of no more use
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	for {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		s.start(nc)
	}
}

// ServeConn serves one connection until it ends.
func (s *Server) ServeConn(nc net.Conn) {
	if c := s.start(nc); c != nil {
		<-c.ended
	}
}

func (s *Server) start(nc net.Conn) *client {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		nc.Close() //nolint:errcheck // nobody is there to serve it
		return nil
	}
	c := newClient(s, nc)
	s.conns[c] = struct{}{}
	s.wg.Go(c.serve)
	return c
}

// Close ends everything and forgets all leases, as a stock server does that is
// stopped. It waits for the server's goroutines.
func (s *Server) Close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.done)
		for l := range s.listeners {
			l.Close() //nolint:errcheck // Serve sees it
		}
		for c := range s.conns {
			c.nc.Close() //nolint:errcheck // its goroutine sees it
		}
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// Drop closes all present connections, and serves on.
func (s *Server) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.nc.Close() //nolint:errcheck // its goroutine sees it
	}
}

// Counts returns how many connections there are, how many leases are held and
// how many wait in a queue.
func (s *Server) Counts() (conns, held, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.keys {
		if e.owner != nil {
			held++
		}
		waiting += len(e.queue)
	}
	return len(s.conns), held, waiting
}

func (s *Server) sweep() {
	t := time.NewTicker(s.cfg.Sweep)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-s.done:
			return
		}
		s.mu.Lock()
		now := time.Now()
		for key, e := range s.keys {
			if e.owner != nil && !now.Before(e.owner.expires) {
				e.owner = nil
				s.handOver(key, e)
			}
		}
		s.mu.Unlock()
	}
}
