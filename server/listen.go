package server

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// Serve accepts connections from the listener and serves each on a goroutine of
// its own, until Shutdown or Close; then it returns ErrServerClosed. It closes
// the listener, and may be called for several. An accept that the kernel
// refuses, such as for want of file descriptors, is tried again after 5 ms to
// 1 s, and the connections that there are go on; any other failure is returned.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close() //nolint:errcheck // closed twice, or of no more use
	if !s.listening(l) {
		return ErrServerClosed
	}
	defer s.notListening(l)
	s.cfg.Logger.Info("serving", "address", l.Addr(), "tls", s.tls != nil, "secret", s.guard != nil)
	pause := acceptPolicy()
	for {
		nc, err := l.Accept()
		if err == nil {
			pause.Reset()
			if c := s.admit(nc); c != nil {
				go s.run(c)
			}
			continue
		}
		if s.isClosing() {
			return ErrServerClosed
		}
		if !passing(err) {
			return fmt.Errorf("server: accept: %w", err)
		}
		wait := pause.NextBackOff()
		s.cfg.Logger.Warn("accept failed", "error", err, "again_in", wait)
		again := time.NewTimer(wait)
		select {
		case <-again.C:
		case <-s.closing:
			again.Stop()
			return ErrServerClosed
		}
	}
}

// acceptPolicy doubles from 5 ms to 1 s: soon enough when a descriptor is freed
// at once, and no busy loop when none is.
func acceptPolicy() backoff.BackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(5*time.Millisecond),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(0),
		backoff.WithMaxInterval(time.Second),
		backoff.WithMaxElapsedTime(0),
	)
}

// passing says whether the next accept may succeed. What the kernel says may
// pass, and a server that gave up would lose all locks; what a listener of
// somebody's own making says is taken for final.
func passing(err error) bool {
	var kernel *net.OpError
	return errors.As(err, &kernel) && !errors.Is(err, net.ErrClosed)
}

// listening registers a listener, unless the server is closing.
func (s *Server) listening(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosing() {
		return false
	}
	s.listeners[l] = struct{}{}
	return true
}

func (s *Server) notListening(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}
