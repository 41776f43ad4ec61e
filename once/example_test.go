package once_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/distributed-go/distributed/guard"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/memory"
	"github.com/distributed-go/distributed/once"
)

// A SQLStore is a Store in a table of PostgreSQL, or SQLite:
//
//	CREATE TABLE once (key TEXT PRIMARY KEY, record BYTEA NOT NULL, fence BIGINT NOT NULL)
type SQLStore struct{ DB *sql.DB }

// Load implements once.Store.
func (s SQLStore) Load(ctx context.Context, key string) ([]byte, error) {
	var record []byte
	err := s.DB.QueryRowContext(ctx, `SELECT record FROM once WHERE key = $1`, key).Scan(&record)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return record, err
}

// Save implements once.Store. A row that was saved with a larger fence stays.
func (s SQLStore) Save(ctx context.Context, key string, record []byte, fence uint64, _ time.Duration) error {
	if record == nil {
		record = []byte{} // the row stays, for its fence
	}
	result, err := s.DB.ExecContext(ctx, `
		INSERT INTO once (key, record, fence) VALUES ($1, $2, $3)
		ON CONFLICT (key) DO UPDATE SET record = excluded.record, fence = excluded.fence
		WHERE once.fence <= excluded.fence`, key, record, int64(fence))
	if err != nil {
		return err
	}
	switch n, err := result.RowsAffected(); {
	case err != nil:
		return err
	case n == 0:
		return once.ErrStale
	}
	return nil
}

// On a stock dflockd server, or to have the mark beside what it is about, a table of
// the database that is migrated keeps it. SQLStore, above, is all that it takes.
func ExampleWithMarker() {
	migrate := func(ctx context.Context, client *locker.Client, db *sql.DB) error {
		o := once.New(client, "migrate/v7", once.WithMarker(SQLStore{DB: db}))
		return o.Do(ctx, func(ctx context.Context) error {
			_, err := db.ExecContext(ctx, `ALTER TABLE invoices ADD COLUMN paid DATE`)
			return err
		})
	}
	_ = migrate // it needs a database
}

// The same table hands results over between processes.
func ExampleWithResults() {
	report := func(ctx context.Context, client *locker.Client, db *sql.DB) (string, error) {
		g := once.NewGroup[string](client, "reports", once.WithResults(SQLStore{DB: db}), once.WithFresh(time.Minute))
		text, _, err := g.Do(ctx, "daily", func(ctx context.Context) (string, error) {
			var text string
			err := db.QueryRowContext(ctx, `SELECT report()`).Scan(&text)
			return text, err
		})
		return text, err
	}
	_ = report // it needs a database
}

// The same key with another input is an error that says so.
func ExampleWithFingerprint() {
	client := locker.New(memory.New())
	defer client.Close()
	load := func(context.Context) error {
		fmt.Println("loading")
		return nil
	}
	ctx := context.Background()
	for _, sum := range []string{"9f86d081", "9f86d081", "60303ae2"} {
		o := once.New(client, "seed", once.WithVolatile(), once.WithFingerprint(sum))
		err := o.Do(ctx, load)
		var other *once.FingerprintError
		fmt.Println(errors.As(err, &other), err == nil)
	}
	// Output:
	// loading
	// false true
	// false true
	// true false
}

// Who did it, and when.
func ExampleOnce_Mark() {
	client := locker.New(memory.New())
	defer client.Close()
	ctx := context.Background()
	report := once.New(client, "report", once.WithExpiry(24*time.Hour))
	_, err := report.Mark(ctx)
	fmt.Println(errors.Is(err, once.ErrNotDone))
	if err := report.Do(ctx, func(context.Context) error { return nil }); err != nil {
		log.Fatal(err)
	}
	mark, err := report.Mark(ctx)
	fmt.Println(mark.Expires.Sub(mark.At), mark.Fence > 0, err)
	// Output:
	// true
	// 24h0m0s true <nil>
}

// The function puts the fence of its lease beside what it writes. One that was paused
// for so long that another one ran instead is refused.
func ExampleLeaseOf() {
	client := locker.New(memory.New())
	defer client.Close()
	ctx := context.Background()
	var report guard.Memory // or a table of a database: package guard
	daily := once.New(client, "report", once.WithExpiry(24*time.Hour))
	err := daily.Do(ctx, func(ctx context.Context) error {
		fence, err := guard.FenceOf(once.LeaseOf(ctx))
		if err != nil {
			return err
		}
		return guard.Write(ctx, &report, "report", fence, []byte("all is well"))
	})
	fmt.Println(err)
	fmt.Println(once.LeaseOf(ctx) == nil)
	// Output:
	// <nil>
	// true
}
