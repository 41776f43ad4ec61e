package guard

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"regexp"
)

// A Table guards what a database keeps: a table with a row for each key, which
// remembers the largest fence. The zero value is the table "fences" of a
// PostgreSQL database. It is a plain value, safe for concurrent use.
//
//	fences := guard.Table{}
//	...
//	if err := fences.Check(ctx, tx, lease.Key(), fence); err != nil {
//		return err // and roll back
//	}
//
// A row must stay for as long as a holder of its key may be alive: deleting it
// lets late ones in.
type Table struct {
	// Name of the table, with its schema if need be: "app.fences". It is put
	// into the SQL as it is, so only letters, digits, _ and dots are accepted.
	// The default is "fences".
	Name string
	// Dialect of the database. The default is PostgreSQL.
	Dialect Dialect
}

// tableName is what may be put into SQL without quotes.
var tableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`)

// Create returns the statement that creates the table if it does not exist, for
// migrations or to execute as it is.
func (t Table) Create() (string, error) {
	name, err := t.name()
	if err != nil {
		return "", err
	}
	return t.Dialect.create(name)
}

func (t Table) name() (string, error) {
	switch {
	case t.Name == "":
		return "fences", nil
	case !tableName.MatchString(t.Name):
		return "", fmt.Errorf("guard: table name %q: must be of letters, digits, _ and dots, as in app.fences", t.Name)
	}
	return t.Name, nil
}

// Check remembers the fence under key and returns a *StaleError if a larger one
// was seen. It must run in the transaction that it protects, before that reads
// or writes anything else, and any error must end in a rollback.
//
// The row of the key stays locked until the transaction ends. So transactions
// of one key run one after the other, in the order of their fences: one with a
// larger fence waits for the commit of a smaller, and after it the smaller ones
// are refused. It is right at every level of isolation. Errors of the database
// are wrapped: from repeatable read upwards, and in deadlocks, they mean as
// everywhere that the whole transaction should be tried again.
//
// A database has signed numbers, so a fence above 2⁶³−1 is an error. Those of
// this project begin at the nanoseconds since 1970 and get there in 2262.
func (t Table) Check(ctx context.Context, tx *sql.Tx, key string, fence uint64) error {
	if err := usable(key, fence); err != nil {
		return err
	}
	if fence > math.MaxInt64 {
		return fmt.Errorf("guard: %q: fence %d: must be at most %d to fit into a bigint", key, fence, int64(math.MaxInt64))
	}
	if tx == nil {
		return failed(key, "check in "+t.Dialect.String(), errors.New("the transaction is nil: give the one that the check protects"))
	}
	seen, err := t.raise(ctx, tx, key, int64(fence))
	if err != nil {
		return failed(key, "check in "+t.Dialect.String(), err)
	}
	return judge(key, fence, uint64(seen)) //nolint:gosec // raise returns none below fence
}

// raise stores the fence if it is larger than what stands there, locks the row
// and returns what stands there then.
func (t Table) raise(ctx context.Context, tx *sql.Tx, key string, fence int64) (seen int64, err error) {
	name, err := t.name()
	if err != nil {
		return 0, err
	}
	var row *sql.Row
	switch t.Dialect {
	case PostgreSQL:
		row = tx.QueryRowContext(ctx, fmt.Sprintf(raisePostgreSQL, name), key, fence)
	case SQLite:
		row = tx.QueryRowContext(ctx, fmt.Sprintf(raiseSQLite, name), key, fence)
	case MySQL:
		if _, err := tx.ExecContext(ctx, fmt.Sprintf(raiseMySQL, name), key, fence, fence); err != nil {
			return 0, err
		}
		row = tx.QueryRowContext(ctx, fmt.Sprintf(readMySQL, name), key)
	default:
		return 0, t.Dialect.unknown()
	}
	if err := row.Scan(&seen); err != nil {
		return 0, err
	}
	if seen < fence {
		// A trigger, or a table that is not what Create makes.
		return 0, fmt.Errorf("the table %s says %d after %d was stored", name, seen, fence)
	}
	return seen, nil
}
