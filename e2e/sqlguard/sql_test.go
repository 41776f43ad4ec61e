package sqlguard

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"modernc.org/sqlite"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/guard"
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/leaktest"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/server"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var holds = size.New("sql-holds", 20, 400, "holds of each of the holders who write to a database")

const (
	holders = 8
	keys    = 3
	// late is how often a holder writes once more after it has released.
	late = 0.5
)

// fences is the guard.
var fences = guard.Table{Dialect: guard.SQLite}

// TestSQLite has holders write to a database under their locks, and at times long
// after they have released them. With the guard the fences of each key only grow
// in the order of the commits, whatever runs at the same time, and not a write of
// a holder who really held was refused. Without it they do not grow, or else the
// test would show nothing.
func TestSQLite(t *testing.T) {
	for _, mode := range []string{"WAL", "DELETE"} {
		t.Run(mode, func(t *testing.T) {
			c := newCampaign(t, mode)
			var all sync.WaitGroup
			for i := range holders {
				all.Go(func() {
					if err := c.holder(rand.New(rand.NewPCG(uint64(i), 1))); err != nil { //nolint:gosec // a seed is what we want
						t.Error(err)
					}
				})
			}
			all.Wait()
			guarded, bare := c.stale("guarded"), c.stale("bare")
			t.Logf("%d transactions, tried %d times; %d late ones refused by the guard, %d accepted; %d taken without a guard",
				c.done.Load(), c.tried.Load(), c.refused.Load(), guarded, bare)
			if guarded > 0 {
				t.Errorf("%d writes with a smaller fence came after one with a larger", guarded)
			}
			if c.refused.Load() == 0 || bare == 0 {
				t.Errorf("%d writes were refused and %d came late without a guard: nobody was late", c.refused.Load(), bare)
			}
			if n := c.wronged.Load(); n > 0 {
				t.Errorf("%d writes of holders were refused", n)
			}
		})
	}
}

type campaign struct {
	t      *testing.T
	db     *sql.DB
	client *distributed.Client

	done, tried      atomic.Int64 // transactions
	refused, wronged atomic.Int64 // of those who were late, and of those who held
}

func newCampaign(t *testing.T, mode string) *campaign {
	t.Helper()
	s, err := server.New(server.Config{Logger: slog.New(slog.DiscardHandler)})
	assert.Sure(t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	assert.Sure(t, err)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		assert.Sure(t, s.Close())
		<-served
	})
	client, err := distributed.Open("dflockd://"+ln.Addr().String()+"?fences=1", locker.WithTTL(time.Minute))
	assert.Sure(t, err)
	t.Cleanup(func() { assert.Sure(t, client.Close()) })

	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "db")+"?_pragma=busy_timeout(20000)&_pragma=journal_mode("+mode+")&_pragma=synchronous(OFF)")
	assert.Sure(t, err)
	t.Cleanup(func() { assert.Sure(t, db.Close()) })
	db.SetMaxOpenConns(holders)
	create, err := fences.Create()
	assert.Sure(t, err)
	for _, statement := range []string{
		create,
		"CREATE TABLE guarded (id integer PRIMARY KEY AUTOINCREMENT, name text NOT NULL, fence integer NOT NULL)",
		"CREATE TABLE bare (id integer PRIMARY KEY AUTOINCREMENT, name text NOT NULL, fence integer NOT NULL)",
	} {
		_, err := db.ExecContext(t.Context(), statement)
		assert.Sure(t, err)
	}
	return &campaign{t: t, db: db, client: client}
}

// holder holds keys, one after the other, and writes.
func (c *campaign) holder(random *rand.Rand) error {
	ctx := c.t.Context()
	for range holds.Get() {
		key := fmt.Sprint("key-", random.IntN(keys))
		lease, err := c.client.Acquire(ctx, key)
		if err != nil {
			return err
		}
		fence, ok := lease.Fence()
		if !ok {
			return errors.New("the server has no fences")
		}
		for range 1 + random.IntN(2) {
			switch err := c.write(ctx, key, fence); {
			case errors.Is(err, guard.ErrStale):
				c.wronged.Add(1)
			case err != nil:
				return err
			}
		}
		if err := lease.Release(ctx); err != nil {
			return err
		}
		if random.Float64() >= late {
			continue
		}
		time.Sleep(time.Duration(random.IntN(5)) * time.Millisecond) // real time: others hold the key by then, as a rule
		switch err := c.write(ctx, key, fence); {
		case errors.Is(err, guard.ErrStale):
			c.refused.Add(1)
		case err != nil:
			return err
		}
	}
	return nil
}

// write writes to both tables, in a transaction each. As everywhere with SQLite,
// one that the database was too busy for is tried again as a whole.
func (c *campaign) write(ctx context.Context, key string, fence uint64) error {
	if err := c.transact(ctx, "bare", key, fence, func(*sql.Tx) error { return nil }); err != nil {
		return err
	}
	return c.transact(ctx, "guarded", key, fence, func(tx *sql.Tx) error { return fences.Check(ctx, tx, key, fence) })
}

func (c *campaign) transact(ctx context.Context, table, key string, fence uint64, check func(*sql.Tx) error) error {
	for {
		c.tried.Add(1)
		err := c.attempt(ctx, table, key, fence, check)
		var busy *sqlite.Error
		const sqliteBusy = 5 // the low byte of SQLITE_BUSY and its kinds
		if errors.As(err, &busy) && busy.Code()&0xff == sqliteBusy {
			continue
		}
		c.done.Add(1)
		return err
	}
}

func (c *campaign) attempt(ctx context.Context, table, key string, fence uint64, check func(*sql.Tx) error) error {
	tx, err := c.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back
	if err := check(tx); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO "+table+" (name, fence) VALUES (?, ?)", key, int64(fence)); err != nil { //nolint:gosec // the guard refuses larger ones
		return err
	}
	return tx.Commit()
}

// stale counts the rows of a table that came after one with a larger fence. The
// rows are in the order of their commits: SQLite has one writer at a time.
func (c *campaign) stale(table string) (n int) {
	c.t.Helper()
	err := c.db.QueryRowContext(c.t.Context(), "SELECT count(*) FROM (SELECT fence, max(fence) OVER "+
		"(PARTITION BY name ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM "+table+") WHERE fence < before").Scan(&n)
	assert.Sure(c.t, err)
	return n
}
