package stocktest

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
	"time"
)

// An entry is a key that is held or waited for. All of this file is guarded by
// Server.mu.
type entry struct {
	owner *lease
	queue []*waiter
}

// A lease is one hold.
type lease struct {
	token   string
	client  *client
	ttl     time.Duration
	expires time.Time
}

// A waiter is a place in a queue.
type waiter struct {
	client *client
	ttl    time.Duration
	lease  chan *lease // capacity 1: receives the grant
}

// acquire grants the key at once if it is free and nobody queues; if not it
// returns a place, unless that was not wanted.
func (s *Server) acquire(c *client, key string, ttl time.Duration, queue bool) (*lease, *waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.keys[key]
	if e == nil {
		e = new(entry)
		s.keys[key] = e
	}
	if e.owner == nil && len(e.queue) == 0 {
		e.owner = newLease(c, ttl)
		return e.owner, nil
	}
	if !queue {
		return nil, nil
	}
	w := &waiter{client: c, ttl: ttl, lease: make(chan *lease, 1)}
	e.queue = append(e.queue, w)
	return nil, w
}

func newLease(c *client, ttl time.Duration) *lease {
	var token [16]byte
	rand.Read(token[:]) //nolint:errcheck // it never fails
	return &lease{token: hex.EncodeToString(token[:]), client: c, ttl: ttl, expires: time.Now().Add(ttl)}
}

// handOver grants a key without an owner to the first who waits.
func (s *Server) handOver(key string, e *entry) {
	if len(e.queue) == 0 {
		delete(s.keys, key)
		return
	}
	w := e.queue[0]
	e.queue = e.queue[1:]
	e.owner = newLease(w.client, w.ttl)
	w.lease <- e.owner
}

// leave gives up a place; it returns the lease if the turn had come.
func (s *Server) leave(key string, w *waiter) *lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.keys[key]; e != nil {
		if i := slices.Index(e.queue, w); i >= 0 {
			e.queue = slices.Delete(e.queue, i, i+1)
			return nil
		}
	}
	select {
	case l := <-w.lease:
		return l
	default:
		return nil
	}
}

// held returns the entry of a key that is held with the token.
func (s *Server) held(key, token string) *entry {
	e := s.keys[key]
	if e == nil || e.owner == nil || e.owner.token != token {
		return nil
	}
	return e
}

func (s *Server) release(key, token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.held(key, token)
	if e == nil {
		return false
	}
	e.owner = nil
	s.handOver(key, e)
	return true
}

// renew starts a lease anew. One that has run out is not resurrected, even if
// no sweep has found it yet.
func (s *Server) renew(key, token string, ttl time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.held(key, token)
	if e == nil || !time.Now().Before(e.owner.expires) {
		return false
	}
	e.owner.ttl, e.owner.expires = ttl, time.Now().Add(ttl)
	return true
}

// collect starts a lease anew that was granted before it was waited for.
func (s *Server) collect(key string, l *lease) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held(key, l.token) == nil {
		return false
	}
	l.expires = time.Now().Add(l.ttl)
	return true
}

// drop forgets a connection and, unless told otherwise, releases what it held
// and gives up its places.
func (s *Server) drop(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if s.cfg.Keep {
		return
	}
	for key, e := range s.keys {
		e.queue = slices.DeleteFunc(e.queue, func(w *waiter) bool { return w.client == c })
		if e.owner != nil && e.owner.client == c {
			e.owner = nil
			s.handOver(key, e)
		}
	}
}
