package server

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/distributed-go/distributed/internal/datadir"
)

// A State says what a server does at the moment.
type State string

const (
	// StateReady servers grant what is free.
	StateReady State = "ready"
	// StateGrace servers were restarted after an unclean stop, and grant nothing
	// before those who held had the time to come back.
	StateGrace State = "grace"
	// StateStalled servers wait for the disk of their data directory. What it has
	// to know first waits with it: the first lease of a longer TTL than those that
	// are out, a lease longer than Config.MaxGrace, and a value. All else goes on.
	StateStalled State = "stalled"
	// StateDraining servers are being stopped.
	StateDraining State = "draining"
	// StateFailed servers cannot write to their data directory: leases are
	// renewed and released, but soon nothing more is granted, or no value is put
	// any more.
	StateFailed State = "failed"
)

// A Status is what there is to know of a server as a whole.
type Status struct {
	State State
	// GraceEnds is the time to the end of the grace, and 0 without one.
	GraceEnds time.Duration
	// Stalled is for how long somebody has been waiting for the disk of the data
	// directory, and 0 if nobody does.
	Stalled time.Duration
	// Durable says that there is a data directory.
	Durable bool
	// Err is why nothing can be written there any more.
	Err error
}

// stalledAfter is how long somebody must have been waiting for the disk before
// the state says so: many disks take a second now and then.
const stalledAfter = 2 * time.Second

// Serving says whether clients should be sent to the server. In the grace they
// must: that is what it is for. While it is stalled they may as well.
func (s Status) Serving() bool {
	return s.State == StateReady || s.State == StateGrace || s.State == StateStalled
}

// String returns the state, with the end of the grace, what failed, or for how long
// the disk has not answered.
func (s Status) String() string {
	switch {
	case s.State == StateGrace:
		return fmt.Sprintf("%s, for another %v", s.State, s.GraceEnds.Round(time.Millisecond))
	case s.State == StateStalled:
		return fmt.Sprintf("%s: the disk has not answered for %v", s.State, s.Stalled.Round(time.Millisecond))
	case s.State == StateFailed:
		return fmt.Sprintf("%s: %v", s.State, s.Err)
	}
	return string(s.State)
}

// Status returns what the server does at the moment.
func (s *Server) Status() Status {
	k := s.locks
	now := k.enter()
	defer func() { k.leave(now) }()
	k.sessions.Advance(now)
	st := Status{State: StateReady, Durable: k.disk != nil}
	if st.Durable {
		if err := k.disk.dir.Err(); !errors.Is(err, datadir.ErrClosed) {
			st.Err = err
		}
		if st.Err == nil {
			st.Err = k.disk.valuesErr()
		}
		st.Stalled = k.disk.stalled(k.now())
	}
	if end := k.table.GraceEnd(); end != 0 {
		st.GraceEnds = end - now
	}
	switch {
	case k.draining:
		st.State = StateDraining
	case st.Err != nil:
		st.State = StateFailed
	case st.GraceEnds > 0:
		st.State = StateGrace
	case st.Stalled >= stalledAfter:
		st.State = StateStalled
	}
	return st
}

// Health returns a handler for whoever watches the server over HTTP. /healthz is
// 200 as long as the process answers, and /readyz while clients should be sent to
// it, else 503; both say the Status as text. In the grace /readyz is 200: clients
// must reach the server to claim what they hold.
func (s *Server) Health() http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, code int, st Status) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(code)
		io.WriteString(w, st.String()+"\n") //nolint:errcheck // whoever asked has gone
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, s.Status())
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		st, code := s.Status(), http.StatusOK
		if !st.Serving() {
			code = http.StatusServiceUnavailable
		}
		answer(w, code, st)
	})
	return mux
}
