package guard

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
)

func quick(t *testing.T) *sql.DB { return openDatabase(t, func() {}, func(uint64) {}) }

func TestTableRemembersTheLargestFence(t *testing.T) {
	for _, dialect := range []Dialect{PostgreSQL, MySQL, SQLite} {
		t.Run(dialect.String(), func(t *testing.T) {
			db, table := quick(t), Table{Dialect: dialect}
			check := func(key string, fence uint64) error {
				return inTx(t.Context(), db, func(tx *sql.Tx) error { return table.Check(t.Context(), tx, key, fence) })
			}
			assert.Sure(t, check("a", 7))
			assert.Sure(t, check("a", 7))
			assert.Sure(t, check("b", 1))
			assert.Sure(t, check("a", math.MaxInt64))
			err := check("a", 7)
			var stale *StaleError
			if !errors.As(err, &stale) || *stale != (StaleError{Key: "a", Fence: 7, Seen: math.MaxInt64}) {
				t.Errorf("the error is %v", err)
			}
			assert.Matches(t, check("a", 0), ErrNoFence)
			for _, bad := range []error{check("", 7), check("a", math.MaxInt64+1)} {
				if bad == nil || errors.Is(bad, ErrStale) {
					t.Errorf("the error is %v", bad)
				}
			}
		})
	}
}

func TestARollbackForgetsTheFence(t *testing.T) {
	db, undo := quick(t), errors.New("undo")
	err := inTx(t.Context(), db, func(tx *sql.Tx) error {
		assert.Sure(t, Table{}.Check(t.Context(), tx, "a", 8))
		return undo
	})
	assert.Matches(t, err, undo)
	assert.Sure(t, inTx(t.Context(), db, func(tx *sql.Tx) error { return Table{}.Check(t.Context(), tx, "a", 7) }))
}

func TestCheckWaitsForTheCommitOfAnEarlierHolder(t *testing.T) {
	db := quick(t)
	early, err := db.BeginTx(t.Context(), nil)
	assert.Sure(t, err)
	assert.Sure(t, Table{}.Check(t.Context(), early, "a", 7))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err = inTx(t.Context(), db, func(tx *sql.Tx) error { return Table{}.Check(ctx, tx, "a", 8) })
	assert.Matches(t, err, context.DeadlineExceeded)
	assert.Sure(t, early.Commit())
	assert.Sure(t, inTx(t.Context(), db, func(tx *sql.Tx) error { return Table{}.Check(t.Context(), tx, "a", 8) }))
}

func TestTableNames(t *testing.T) {
	for _, good := range []string{"fences", "App_2.fences", "a.b.c"} {
		ddl, err := Table{Name: good}.Create()
		if err != nil || !strings.Contains(ddl, " "+good+" ") {
			t.Errorf("%s: %q, %v", good, ddl, err)
		}
	}
	for _, bad := range []string{"a b", "a;", "1a", ".a", "a.", "a..b", `"a"`, "fénces", "a\n", "a--"} {
		if ddl, err := (Table{Name: bad}).Create(); err == nil {
			t.Errorf("%q is accepted: %s", bad, ddl)
		}
		err := inTx(t.Context(), quick(t), func(tx *sql.Tx) error { return Table{Name: bad}.Check(t.Context(), tx, "a", 7) })
		if err == nil || !strings.Contains(err.Error(), "table name") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestUnknownDialects(t *testing.T) {
	table := Table{Dialect: 9}
	if _, err := table.Create(); err == nil {
		t.Error("it is created")
	}
	err := inTx(t.Context(), quick(t), func(tx *sql.Tx) error { return table.Check(t.Context(), tx, "a", 7) })
	if err == nil || !strings.Contains(err.Error(), "must be PostgreSQL, MySQL or SQLite") {
		t.Errorf("the error is %v", err)
	}
}

func TestErrorsOfTheDatabaseComeBack(t *testing.T) {
	db := quick(t)
	err := inTx(t.Context(), db, func(tx *sql.Tx) error { return Table{Name: "missing"}.Check(t.Context(), tx, "a", 7) })
	if err == nil || errors.Is(err, ErrStale) || !strings.Contains(err.Error(), "check in PostgreSQL: syntax error") {
		t.Errorf("the error is %v", err)
	}
}

func TestNilTransaction(t *testing.T) {
	err := Table{}.Check(t.Context(), nil, "a", 7)
	if err == nil || !strings.Contains(err.Error(), "the transaction is nil") {
		t.Errorf("the error is %v", err)
	}
}
