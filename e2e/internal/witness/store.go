//go:build unix

package witness

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/guard"
)

// A Store is a resource that locks protect, in the test's own process, so that
// it survives every worker. It keeps what it is given twice: behind a guard,
// and without one. Each request is a line "KEY FENCE", each answer a line.
type Store struct {
	listener net.Listener
	running  sync.WaitGroup
	guarded  guard.Memory

	mu      sync.Mutex
	conns   map[net.Conn]bool // guarded by mu, as all below; nil once closed
	largest map[string]uint64 // the largest fence that wrote to each key
	counts  Counts
	found   []campaign.Violation
}

// Counts is what a store has seen.
type Counts struct {
	Writes        int
	StaleRefused  int // by the guard
	StaleAccepted int // by the guard
	StaleTaken    int // by the one without a guard
}

// StartStore starts a store that is closed when the test ends.
func StartStore(t testing.TB) *Store {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Store{listener: ln, conns: make(map[net.Conn]bool), largest: make(map[string]uint64)}
	s.running.Go(s.accept)
	t.Cleanup(s.close)
	return s
}

// Addr is where it listens.
func (s *Store) Addr() string { return s.listener.Addr().String() }

func (s *Store) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.running.Go(func() { s.serve(conn) })
	}
}

func (s *Store) close() {
	s.listener.Close()
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.conns = nil
	s.mu.Unlock()
	s.running.Wait()
}

func (s *Store) serve(conn net.Conn) {
	defer conn.Close()
	s.mu.Lock()
	if s.conns == nil {
		s.mu.Unlock()
		return
	}
	s.conns[conn] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, conn)
	}()
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		var (
			key   string
			fence uint64
		)
		if _, err := fmt.Sscan(lines.Text(), &key, &fence); err != nil {
			return
		}
		answer := "ok\n"
		if !s.put(key, fence) {
			answer = "stale\n"
		}
		if _, err := conn.Write([]byte(answer)); err != nil {
			return
		}
	}
}

// put writes to both, and says whether the guard let the write pass. That the
// guard is right is judged by the fences that wrote before, not by the guard.
func (s *Store) put(key string, fence uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Writes++
	stale := fence < s.largest[key]
	if stale {
		s.counts.StaleTaken++
	}
	s.largest[key] = max(s.largest[key], fence)
	err := guard.Write(context.Background(), &s.guarded, key, fence, []byte("x"))
	switch {
	case stale && err == nil:
		s.counts.StaleAccepted++
		s.found = append(s.found, campaign.Violationf("stale", "key %s: the guard accepted fence %d after %d", key, fence, s.largest[key]))
	case stale && errors.Is(err, guard.ErrStale):
		s.counts.StaleRefused++
	case err != nil:
		s.found = append(s.found, campaign.Violationf("guard", "key %s, fence %d after %d: %v", key, fence, s.largest[key], err))
	}
	return err == nil
}

// Result returns what was seen so far.
func (s *Store) Result() (Counts, []campaign.Violation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts, s.found
}
