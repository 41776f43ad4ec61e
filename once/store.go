package once

import (
	"context"
	"time"
)

// A Store keeps records where the backend keeps no values: a row in a database, an
// entry of a cache. It is safe for concurrent use. Keys are those of the backend,
// such as "once/migrate"; records are opaque.
//
// It is written under the lock of the key. But a holder that has lost its lease
// may not know it yet, and write late; only the Store can refuse that, by the
// fence: it remembers the largest that it was given for a key, also when a record
// is removed, and refuses smaller ones with ErrStale. With a table
//
//	CREATE TABLE once (key TEXT PRIMARY KEY, record BYTEA NOT NULL, fence BIGINT NOT NULL)
//
// Load is
//
//	SELECT record FROM once WHERE key = $1
//
// where sql.ErrNoRows is no error but no record, and Save is
//
//	INSERT INTO once (key, record, fence) VALUES ($1, $2, $3)
//	ON CONFLICT (key) DO UPDATE SET record = excluded.record, fence = excluded.fence
//	WHERE once.fence <= excluded.fence
//
// where no affected row is ErrStale. The example of WithMarker has it in Go. Where
// the backend has no fences, as a stock dflockd server without ?fences=1, all are 0
// and a late write cannot be told from others.
type Store interface {
	// Load returns what was saved last under the key, or nothing, without an
	// error, if nothing was.
	Load(ctx context.Context, key string) ([]byte, error)

	// Save saves a record in place of what was there; an empty one removes it.
	// After keep nobody needs it any more, so a cache may drop it; 0 is for
	// ever. It refuses with an error that matches ErrStale if it was given a
	// larger fence for the key before. An error that matches
	// locker.ErrUnavailable is tried again while the lease lasts; one that
	// matches locker.ErrNotStored says that the record was not saved, and will
	// not be soon; after any other, nobody knows whether it was.
	Save(ctx context.Context, key string, record []byte, fence uint64, keep time.Duration) error
}
