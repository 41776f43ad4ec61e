package session

import (
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/table"
)

// A ServerConfig is what a Server needs to know from the start.
type ServerConfig struct {
	// Table is the lock table, which others may use too. Its events are the
	// Server's to read: see Server.Settle.
	Table *table.Table
	// NewID returns the secret name of a new session.
	NewID func() codec.SessionID
	// Happened gets each event of the table, also of leases that belong to no
	// session, before the Server acts on it. It must call neither the table nor
	// the Server; nil is for nobody.
	Happened func(table.Event)
	// Forced is told who took which key away, over which connection, and how many
	// leases ended. It must not call the Server; nil is for nobody.
	Forced func(by string, over Outlet, k table.Kind, key string, ended int)
	// TTL is the lease of requests that name none, above 0.
	TTL time.Duration
	// Silence is how long a link may be silent before it is closed, and Memory
	// how long a session without link, leases and places is known; 0 is 30 s
	// and 60 s.
	Silence, Memory time.Duration
	// Offers is what the answer to hello says of the server, beside how much of
	// the table's grace is left.
	Offers []byte
	// Admit is asked before each acquisition and renewal whether a lease of that
	// TTL may be out, and so many more fences be given. Keep is asked before a
	// client hears that it has a lease of a TTL, which may be another one than the
	// lease still has; then that is to be changed at once. Neither may call the
	// table or the Server; nil is for all and at once.
	Admit func(ttl time.Duration, fences int) Verdict
	Keep  func(l *table.Lease, ttl time.Duration) Verdict
	// Values lets clients put, get, remove and join values, and says in the answer
	// to hello how large they may be; without it those requests are refused.
	Values bool
	// Persist is told of each change of a value that the table has accepted, but for
	// those of what is volatile, which need not be there after a restart. It is to
	// begin to write it, and to return false if it never will. Server.Settled is
	// then to be called once for each change that it took, those of one key in their
	// order. Until that the key is granted to nobody and nobody learns of the change;
	// whoever asks waits. It must call neither the table nor the Server. With nil,
	// changes count at once.
	Persist func(Write) bool
}

// A Verdict says whether something may be relied on.
type Verdict uint8

const (
	Now   Verdict = iota // it may
	Later                // it may not yet: ask again at Retry
	Never                // it never will
	Full                 // it might if there were not so much already
)

// An Outlet is where a link's lines go. It must not call the Server.
type Outlet interface {
	// Answer sends a line. The struct is the Server's and changes afterwards.
	Answer(*codec.Answer)
	// Report sends the answer to the stats request with the given ID: making
	// the report is too much work to hold up everybody else for.
	Report(id uint64)
	// Close closes the connection once everything before was written.
	Close()
}
