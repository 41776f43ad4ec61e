package server

import (
	"context"
	"fmt"
	"time"

	"github.com/distributed-go/distributed/internal/datadir"
)

// Shutdown ends the server with as little harm as it can. It closes the
// listeners, answers those who wait and those who come "error_draining", and
// lets those who hold renew and release until nothing is held any more; then it
// closes the connections, each after its last answer. It returns nil when all
// that is done. If ctx ends before, it does what Close does and returns the
// context's cause.
//
// With a data directory it waits for nobody: what is held is written there, and
// the next server goes on with it at once. Whoever waits in session mode hears
// nothing and asks that one again. The error is then also why that could not be
// written, and the next server has a grace. If ctx ends while the disk hangs, it
// returns a second or two later, and the directory stays locked until the disk
// answers or the process ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopListening()
	if s.locks.disk != nil {
		return s.handOn(ctx)
	}
	s.cfg.Logger.Info("draining")
	s.stopGranting()
	select {
	case <-s.locks.drained:
	case <-ctx.Done():
		return s.abandon(ctx)
	}
	for _, c := range s.conns() {
		c.stop()
	}
	select {
	case <-s.gone:
	case <-ctx.Done():
		return s.abandon(ctx)
	}
	s.locks.close(ctx)
	return nil
}

// handOn leaves what is held to the next server.
func (s *Server) handOn(ctx context.Context) error {
	h := &s.locks.disk.handover
	h.once.Do(func() {
		s.cfg.Logger.Info("stopping")
		records := s.locks.freeze(s.handlers())
		go s.writeHeld(records)
	})
	err := within(ctx, func() error {
		<-h.done
		return nil
	})
	if err != nil {
		return s.abandon(ctx)
	}
	for _, c := range s.conns() {
		c.stop()
	}
	select {
	case <-s.gone:
	case <-ctx.Done():
		return s.abandon(ctx)
	}
	s.locks.close(ctx)
	return h.err
}

// writeHeld writes what is held, however long the disk takes. A disk that hangs
// holds up its goroutine, but no Shutdown.
func (s *Server) writeHeld(records []datadir.Record) {
	h := &s.locks.disk.handover
	defer close(h.done)
	clean, err := s.locks.disk.dir.Stop(records)
	if err != nil {
		h.err = fmt.Errorf("server: the leases could not be written: %w", err)
		s.cfg.Logger.Error("stopped", "clean", clean, "leases", len(records), "error", err)
		return
	}
	s.cfg.Logger.Info("stopped", "clean", clean, "leases", len(records))
}

// lastWords is how long a disk has at least for what is to be written last, also
// where nobody waits for it any more.
const lastWords = time.Second

// within returns what f does or, if that is still under way lastWords after the end
// of ctx, the cause of that. Then f goes on.
func within(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	last := time.NewTimer(lastWords)
	defer last.Stop()
	select {
	case err := <-done:
		return err
	case <-last.C:
		return context.Cause(ctx)
	}
}

// abandon does what Close does, but waits no longer for the disk.
func (s *Server) abandon(ctx context.Context) error {
	s.end(ctx)
	return context.Cause(ctx)
}

// Close ends the server at once: it closes the listeners and all connections,
// which releases what they hold unless Config.KeepOnDisconnect, and waits until
// they have ended. A Shutdown under way returns too. The error is always nil. With
// a data directory nothing is released: the next server takes it for a crash,
// unless a Shutdown has written what is held. Close then waits for the disk, and if
// that hangs for as long: a Shutdown whose context has ended does not.
func (s *Server) Close() error {
	s.end(context.Background())
	return nil
}

func (s *Server) end(ctx context.Context) {
	s.stopListening()
	if s.locks.disk != nil {
		s.locks.freeze(s.handlers())
	} else {
		// Or else each connection that ends would pass its locks on to one that
		// is about to.
		s.stopGranting()
	}
	for _, c := range s.conns() {
		c.kill()
	}
	<-s.gone
	s.locks.close(ctx)
}

// stopListening makes Serve return and admits nobody any more.
func (s *Server) stopListening() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosing() {
		return
	}
	close(s.closing)
	for l := range s.listeners {
		l.Close() //nolint:errcheck // there is nothing to do about it
	}
	if len(s.members) == 0 {
		close(s.gone)
	}
}

// stopGranting refuses acquisitions from here on, and gives up those that wait.
func (s *Server) stopGranting() {
	s.locks.startDrain()
	// A connection that is not yet among these comes too late to wait.
	s.locks.giveUp(s.handlers())
}

func (s *Server) conns() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*conn, 0, len(s.members))
	for c := range s.members {
		all = append(all, c)
	}
	return all
}

func (s *Server) handlers() []handler {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]handler, 0, len(s.members))
	for _, m := range s.members {
		if m.handler != nil {
			all = append(all, m.handler)
		}
	}
	return all
}
