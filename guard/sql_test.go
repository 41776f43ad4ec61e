package guard

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"testing"
)

// A database is as much of one as the statements of this package need, as a
// driver of database/sql: transactions, row locks that writers wait for, reads
// of the state at the beginning of the transaction, and locking reads of the
// state as it is. It is exact about those and understands nothing else. That
// real databases understand the statements in the same way is not for it to
// show.
type database struct {
	lag      func()
	onCommit func(fence uint64) // is called at each commit, for each row added to the ledger

	mu    sync.Mutex
	rows  map[string]int64         // the committed fences; guarded by mu
	locks map[string]chan struct{} // closed when the transaction that has the row ends; guarded by mu
}

// The statements of callers, and of wrong guards.
const (
	sqlLedger   = "INSERT INTO ledger (fence) VALUES (?)"
	sqlSnapshot = "SELECT fence FROM fences WHERE name = ?"
	sqlUpdate   = "UPDATE fences SET fence = ? WHERE name = ?"
)

func (d *database) Connect(context.Context) (driver.Conn, error) { return &session{db: d}, nil }
func (d *database) Driver() driver.Driver                        { return nil }

// A session is a connection and its transaction. Database/sql uses it from one
// goroutine at a time.
type session struct {
	db       *database
	snapshot map[string]int64 // what was committed when the transaction began
	writes   map[string]int64 // its own
	ledger   []int64
	locked   []string
	dead     bool // as PostgreSQL's after an error
}

func (s *session) Prepare(string) (driver.Stmt, error) { return nil, driver.ErrSkip }
func (s *session) Close() error                        { return nil }

func (s *session) Begin() (driver.Tx, error) {
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	*s = session{db: s.db, snapshot: maps.Clone(s.db.rows), writes: make(map[string]int64)}
	return s, nil
}

func (s *session) Commit() error { return s.end(!s.dead) }

func (s *session) Rollback() error { return s.end(false) }

func (s *session) end(commit bool) error {
	s.db.lag()
	s.db.mu.Lock()
	defer s.db.mu.Unlock()
	if commit {
		maps.Copy(s.db.rows, s.writes)
		for _, f := range s.ledger {
			s.db.onCommit(uint64(f)) //nolint:gosec // it was one
		}
	}
	for _, name := range s.locked {
		close(s.db.locks[name])
		delete(s.db.locks, name)
	}
	return nil
}

// lock waits until no other transaction has the row, or would insert it.
func (s *session) lock(ctx context.Context, name string) error {
	for {
		s.db.mu.Lock()
		held := s.db.locks[name]
		if _, mine := s.writes[name]; mine {
			held = nil
		} else if held == nil {
			s.db.locks[name] = make(chan struct{})
			s.locked = append(s.locked, name)
			s.writes[name] = s.db.rows[name]
		}
		s.db.mu.Unlock()
		if held == nil {
			return nil
		}
		select {
		case <-held:
		case <-ctx.Done():
			s.dead = true
			return ctx.Err()
		}
	}
}

func (s *session) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	s.db.lag()
	switch query {
	case fmt.Sprintf(raiseMySQL, "fences"):
		if args[1].Value != args[2].Value {
			return nil, errors.New("the fence is not the fence")
		}
		if err := s.lock(ctx, args[0].Value.(string)); err != nil {
			return nil, err
		}
		s.raise(args[0].Value.(string), args[1].Value.(int64))
	case sqlUpdate:
		if err := s.lock(ctx, args[1].Value.(string)); err != nil {
			return nil, err
		}
		s.writes[args[1].Value.(string)] = args[0].Value.(int64)
	case sqlLedger:
		s.ledger = append(s.ledger, args[0].Value.(int64))
	default:
		s.dead = true
		return nil, fmt.Errorf("syntax error in %q", query)
	}
	return driver.ResultNoRows, nil
}

func (s *session) raise(name string, fence int64) { s.writes[name] = max(s.writes[name], fence) }

func (s *session) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	s.db.lag()
	name := args[0].Value.(string)
	switch query {
	case fmt.Sprintf(raisePostgreSQL, "fences"), fmt.Sprintf(raiseSQLite, "fences"):
		if err := s.lock(ctx, name); err != nil {
			return nil, err
		}
		s.raise(name, args[1].Value.(int64))
		return &oneRow{value: s.writes[name]}, nil
	case fmt.Sprintf(readMySQL, "fences"):
		if err := s.lock(ctx, name); err != nil {
			return nil, err
		}
		return &oneRow{value: s.writes[name]}, nil
	case sqlSnapshot:
		// A transaction sees what it changed, and else its snapshot: an upsert
		// that changed nothing leaves the row as it was for plain reads.
		f := s.snapshot[name]
		if w, ok := s.writes[name]; ok && w > s.db.committed(name) {
			f = w
		}
		return &oneRow{value: f}, nil
	}
	s.dead = true
	return nil, fmt.Errorf("syntax error in %q", query)
}

func (d *database) committed(name string) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rows[name]
}

type oneRow struct {
	value int64
	read  bool
}

func (r *oneRow) Columns() []string { return []string{"fence"} }
func (r *oneRow) Close() error      { return nil }

func (r *oneRow) Next(dest []driver.Value) error {
	if r.read {
		return io.EOF
	}
	r.read, dest[0] = true, r.value
	return nil
}

// openDatabase opens an empty database until the test ends.
func openDatabase(t *testing.T, lag func(), onCommit func(uint64)) *sql.DB {
	db := sql.OpenDB(&database{lag: lag, onCommit: onCommit, rows: make(map[string]int64), locks: make(map[string]chan struct{})})
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// inTx runs f in a transaction, and commits if it returns nil.
func inTx(ctx context.Context, db *sql.DB, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func enter(ctx context.Context, tx *sql.Tx, fence uint64) error {
	_, err := tx.ExecContext(ctx, sqlLedger, int64(fence)) //nolint:gosec // small
	return err
}

// tableKind makes resources of what writes into the ledger of a database.
func tableKind(write func(context.Context, *sql.DB, uint64) error) kind {
	return func(t *testing.T, lag func()) *resource {
		r := new(resource)
		db := openDatabase(t, lag, r.wrote)
		r.write = func(ctx context.Context, fence uint64) error { return write(ctx, db, fence) }
		return r
	}
}

func checkedWrite(table Table) func(context.Context, *sql.DB, uint64) error {
	return func(ctx context.Context, db *sql.DB, fence uint64) error {
		return inTx(ctx, db, func(tx *sql.Tx) error {
			if err := table.Check(ctx, tx, "k", fence); err != nil {
				return err
			}
			return enter(ctx, tx, fence)
		})
	}
}

func selectThenUpdate(ctx context.Context, db *sql.DB, fence uint64) error {
	return inTx(ctx, db, func(tx *sql.Tx) error {
		var seen int64
		if err := tx.QueryRowContext(ctx, sqlSnapshot, "k").Scan(&seen); err != nil {
			return err
		}
		if err := judge("k", fence, uint64(seen)); err != nil { //nolint:gosec // not negative
			return err
		}
		if _, err := tx.ExecContext(ctx, sqlUpdate, int64(fence), "k"); err != nil { //nolint:gosec // small
			return err
		}
		return enter(ctx, tx, fence)
	})
}

func checkApart(ctx context.Context, db *sql.DB, fence uint64) error {
	err := inTx(ctx, db, func(tx *sql.Tx) error { return Table{}.Check(ctx, tx, "k", fence) })
	if err != nil {
		return err
	}
	return inTx(ctx, db, func(tx *sql.Tx) error { return enter(ctx, tx, fence) })
}

func readSnapshot(ctx context.Context, db *sql.DB, fence uint64) error {
	return inTx(ctx, db, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, fmt.Sprintf(raiseMySQL, "fences"), "k", int64(fence), int64(fence)); err != nil { //nolint:gosec // small
			return err
		}
		var seen int64
		if err := tx.QueryRowContext(ctx, sqlSnapshot, "k").Scan(&seen); err != nil {
			return err
		}
		if err := judge("k", fence, uint64(seen)); err != nil { //nolint:gosec // not negative
			return err
		}
		return enter(ctx, tx, fence)
	})
}
