package server

import (
	"time"

	"github.com/distributed-go/distributed/internal/datadir"
)

// WithDisk returns the config with what tests own of the data directory.
func (c Config) WithDisk(opts datadir.Options) Config {
	c.disk = &opts
	return c
}

// Updates counts the updates of the data directory since the start, two syncs
// each.
func (s *Server) Updates() uint64 { return s.locks.disk.dir.Updates() }

// Tidy does what a timer does every now and then.
func (s *Server) Tidy() { s.locks.tidy() }

// Pause holds the server's timer up for a while, as if the process was stopped.
func (s *Server) Pause(d time.Duration) {
	timer := func(f func(*time.Timer)) {
		s.locks.mu.Lock()
		defer s.locks.mu.Unlock()
		f(s.locks.timer)
	}
	timer(func(t *time.Timer) { t.Stop() })
	time.Sleep(d)
	timer(func(t *time.Timer) { t.Reset(0) })
}
