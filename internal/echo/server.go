// Package echo is the measure of what a lock server could reach at best: a
// server that answers each request of the size of a lock's with as many bytes
// as its answer has, and does nothing else, and a client that leaves out all but
// what any client needs that shares one connection between goroutines.
//
// Both ends batch: the server writes once for all that a read brought, and the
// client once for all that its goroutines want to send. A read is always pending
// in the client, as in every client that must hear of a dead server.
package echo

import (
	"errors"
	"io"
	"net"
	"sync"
)

const (
	// RequestSize is what "l", a key of 34 bytes, and a timeout and TTL take
	// on the wire, and about what the release takes.
	RequestSize = 45
	// AnswerSize is what "ok", a token and a TTL take.
	AnswerSize = 40

	// bufferSize is the most that one read brings.
	bufferSize = 16 << 10
)

// A Server echoes until it is closed.
type Server struct {
	ln net.Listener
	wg sync.WaitGroup

	mu     sync.Mutex
	closed bool                  // guarded by mu
	conns  map[net.Conn]struct{} // guarded by mu
}

// NewServer serves the listener, which it owns from now on.
func NewServer(ln net.Listener) *Server {
	s := &Server{ln: ln, conns: make(map[net.Conn]struct{})}
	s.wg.Go(s.accept)
	return s
}

// Close ends all connections and waits for the server's goroutines.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.ln.Close()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *Server) accept() {
	for {
		c, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			c.Close()
			return
		}
		s.conns[c] = struct{}{}
		s.wg.Go(func() { s.serve(c) })
		s.mu.Unlock()
	}
}

func (s *Server) serve(c net.Conn) {
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, c)
		c.Close()
	}()
	_ = echo(c) // the client hung up, as a rule
}

// echo answers what comes in, once for each read.
func echo(c io.ReadWriter) error {
	var (
		in   = make([]byte, bufferSize)
		out  = make([]byte, (bufferSize/RequestSize+1)*AnswerSize)
		rest int // bytes of a request whose end has not come yet
	)
	for {
		n, err := c.Read(in)
		if n > 0 {
			requests := (rest + n) / RequestSize
			rest = (rest + n) % RequestSize
			if requests > 0 {
				if _, werr := c.Write(out[:requests*AnswerSize]); werr != nil {
					return werr
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}
