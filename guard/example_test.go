package guard_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/guard"
)

// lock takes a lock for the examples, which run without a server.
func lock() (mu *distributed.Mutex, unlock func()) {
	client, err := distributed.Open("memory://")
	if err != nil {
		log.Fatal(err)
	}
	mu = distributed.NewMutex(client, "invoices")
	mu.Lock()
	return mu, func() {
		mu.Unlock()
		_ = client.Close()
	}
}

// A resource that remembers the largest fence refuses a holder who comes late.
func Example() {
	ctx := context.Background()
	var store guard.Memory
	fmt.Println(guard.Write(ctx, &store, "invoices", 7, []byte("by A, who then pauses")))
	fmt.Println(guard.Write(ctx, &store, "invoices", 8, []byte("by B, who got the lock after A")))
	err := guard.Write(ctx, &store, "invoices", 7, []byte("by A, who does not know"))
	fmt.Println(err)
	fmt.Println(errors.Is(err, guard.ErrStale))
	// Output:
	// <nil>
	// <nil>
	// guard: "invoices": stale fence: 7 after 8 was seen
	// true
}

// The check comes first in the transaction that it protects.
func ExampleTable_Check() {
	fences := guard.Table{Dialect: guard.PostgreSQL}

	pay := func(ctx context.Context, db *sql.DB, lease guard.Lease, invoice int) error {
		fence, err := guard.FenceOf(lease)
		if err != nil {
			return err
		}
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // which does nothing after Commit
		if err := fences.Check(ctx, tx, lease.Key(), fence); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE invoices SET paid = true WHERE id = $1", invoice); err != nil {
			return err
		}
		return tx.Commit()
	}
	_ = pay
}

func ExampleTable_Create() {
	fmt.Println(guard.Table{}.Create())
	// Output: CREATE TABLE IF NOT EXISTS fences (name text PRIMARY KEY, fence bigint NOT NULL) <nil>
}

func ExampleFile() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "guard")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	mu, unlock := lock()
	defer unlock()

	state := guard.File{Path: filepath.Join(dir, "state.json")}
	fence, err := guard.FenceOf(mu.Lease())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(state.Write(ctx, fence, []byte(`{"paid": 7}`)))

	late := state.Write(ctx, fence-1, []byte(`{"paid": 6}`))
	fmt.Println(errors.Is(late, guard.ErrStale))
	data, err := os.ReadFile(state.Path)
	fmt.Println(string(data), err)
	// Output:
	// <nil>
	// true
	// {"paid": 7} <nil>
}

// The server wraps its handler, the client its transport.
func ExampleHandler() {
	server := httptest.NewServer(&guard.Handler{
		Next: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _, ok := guard.FromContext(r.Context())
			fmt.Println(r.Method, "with a fence:", ok)
		}),
		Key: func(r *http.Request) string { return strings.TrimPrefix(r.URL.Path, "/") },
	})
	defer server.Close()
	mu, unlock := lock()
	defer unlock()

	put := func(client *http.Client) error {
		r, err := http.NewRequest(http.MethodPut, server.URL+"/invoices", strings.NewReader("paid"))
		if err != nil {
			return err
		}
		answer, err := client.Do(r)
		if err != nil {
			return err
		}
		defer func() { _ = answer.Body.Close() }()
		return guard.ResponseError(answer)
	}
	fmt.Println(put(&http.Client{Transport: &guard.Transport{Lease: mu.Lease()}}))
	fmt.Println(errors.Is(put(http.DefaultClient), guard.ErrNoFence))
	http.DefaultClient.CloseIdleConnections()
	// Output:
	// PUT with a fence: true
	// <nil>
	// true
}

func ExampleUpdate() {
	ctx := context.Background()
	mu, unlock := lock()
	defer unlock()

	fence, err := guard.FenceOf(mu.Lease())
	if err != nil {
		log.Fatal(err)
	}
	var store guard.Memory
	for range 3 {
		err = guard.Update(ctx, &store, mu.Lease().Key(), fence, func(old []byte) ([]byte, error) {
			return append(old[:len(old):len(old)], '|'), nil
		})
	}
	r, _ := store.Load(ctx, "invoices")
	fmt.Println(string(r.Value), err)
	// Output: ||| <nil>
}
