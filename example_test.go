package distributed_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/memory"
	"github.com/distributed-go/distributed/once"
)

// open returns a client for the examples, which run without a server. A program
// that shares locks with others opens "dflockd://host:6388".
func open() *distributed.Client {
	client, err := distributed.Open("memory://", locker.WithTTL(10*time.Second))
	if err != nil {
		log.Fatal(err)
	}
	return client
}

func ExampleMutex() {
	client := open()
	defer client.Close()

	mu := distributed.NewMutex(client, "invoices") // was: var mu sync.Mutex
	mu.Lock()
	defer mu.Unlock()
	fmt.Println("nobody else has invoices")
	// Output: nobody else has invoices
}

func ExampleMutex_Do() {
	client := open()
	defer client.Close()

	mu := distributed.NewMutex(client, "invoices")
	err := mu.Do(context.Background(), func(ctx context.Context) error {
		fence, ok := mu.Lease().Fence()
		fmt.Println("has a fence for the database:", ok && fence > 0)
		return ctx.Err() // cancelled before anybody else may start
	})
	if errors.Is(err, distributed.ErrLost) {
		fmt.Println("the work may have overlapped with somebody else's")
	}
	fmt.Println(err)
	// Output:
	// has a fence for the database: true
	// <nil>
}

func ExampleMutex_LockContext() {
	client := open()
	defer client.Close()
	holder := distributed.NewMutex(client, "invoices")
	holder.Lock()
	defer holder.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	err := distributed.NewMutex(client, "invoices").LockContext(ctx)
	fmt.Println("held by somebody else:", errors.Is(err, distributed.ErrLocked))
	fmt.Println("the context ended:", errors.Is(err, context.DeadlineExceeded))
	fmt.Println("an outage:", errors.Is(err, distributed.ErrUnavailable))
	// Output:
	// held by somebody else: true
	// the context ended: true
	// an outage: false
}

func ExampleMutex_TryLock() {
	client := open()
	defer client.Close()

	mu := distributed.NewMutex(client, "nightly-report")
	if !mu.TryLock() {
		fmt.Println("another machine writes it")
		return
	}
	defer mu.Unlock()
	fmt.Println("writing the report")
	// Output: writing the report
}

func ExampleMutex_Enqueue() {
	client := open()
	defer client.Close()

	mu := distributed.NewMutex(client, "printer")
	ctx := context.Background()
	ticket, err := mu.Enqueue(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("in the queue; tell the user")
	if err := ticket.Wait(ctx); err != nil {
		log.Fatal(err)
	}
	defer mu.Unlock()
	fmt.Println("printing")
	// Output:
	// in the queue; tell the user
	// printing
}

func ExampleMutex_Lost() {
	client := open()
	defer client.Close()

	mu := distributed.NewMutex(client, "invoices")
	mu.Lock()
	defer mu.Unlock()
	step := make(chan string, 1)
	step <- "a step is done"
	select {
	case <-mu.Lost():
		fmt.Println("stop: somebody else may work already:", mu.Lease().Err())
	case s := <-step:
		fmt.Println(s)
	}
	// Output: a step is done
}

func ExampleMutex_WithLocalHandover() {
	client := open()
	defer client.Close()

	// Many goroutines of this process want the lock: they pass it on among
	// themselves up to 64 times before another process has its turn.
	mu := distributed.NewMutex(client, "counter").WithLocalHandover(64)
	n := 0
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			mu.Lock()
			defer mu.Unlock()
			n++
		})
	}
	wg.Wait()
	fmt.Println(n)
	// Output: 100
}

func ExampleRWMutex_Do() {
	client := open()
	defer client.Close()

	prices := distributed.NewRWMutex(client, "prices") // was: var prices sync.RWMutex
	ctx := context.Background()
	err := prices.Do(ctx, func(ctx context.Context) error {
		fmt.Println("nobody else reads or writes them")
		return ctx.Err() // cancelled before anybody else may start
	})
	if err != nil {
		log.Fatal(err)
	}
	err = prices.RDo(ctx, func(ctx context.Context) error {
		fmt.Println("others read them, too")
		return prices.LockContext(ctx) // would wait for itself
	})
	fmt.Println("an upgrade:", errors.Is(err, distributed.ErrUpgrade))
	// Output:
	// nobody else reads or writes them
	// others read them, too
	// an upgrade: true
}

func ExampleRWMutex() {
	client := open()
	defer client.Close()

	prices := distributed.NewRWMutex(client, "prices")
	prices.RLock()
	defer prices.RUnlock()
	fmt.Println("another reader may join:", prices.TryRLock())
	prices.RUnlock()
	fmt.Println("a writer may not:", prices.TryLock())
	// Output:
	// another reader may join: true
	// a writer may not: false
}

func ExampleSemaphore_Do() {
	client := open()
	defer client.Close()

	memory := distributed.NewSemaphore(client, "render-memory-gb", 64)
	err := memory.Do(context.Background(), 16, func(ctx context.Context) error {
		fmt.Println("16 of 64 GB are this job's")
		return ctx.Err() // cancelled before anybody else may have them
	})
	fmt.Println(err)
	// Output:
	// 16 of 64 GB are this job's
	// <nil>
}

func ExampleSemaphore() {
	client := open()
	defer client.Close()

	gpus := distributed.NewSemaphore(client, "gpu", 4)
	ctx := context.Background()
	lease, err := gpus.Acquire(ctx, 1)
	if err != nil {
		log.Fatal(err)
	}
	defer lease.Release(context.WithoutCancel(ctx))
	work, stop := lease.Context(ctx)
	defer stop()
	fmt.Println("one of four, work may go on:", work.Err() == nil)
	// Output: one of four, work may go on: true
}

func ExampleOnce_Do() {
	// Ten replicas start at the same time. Each has a client of the same server,
	// "dflockd://host:6388" in a program.
	server := memory.NewServer()
	var migrations atomic.Int64
	var replicas sync.WaitGroup
	for range 10 {
		replicas.Go(func() {
			client := locker.New(server.Backend())
			defer client.Close()

			// This server forgets what is done when it stops. One with a data
			// directory does not, and needs no WithVolatile.
			migrate := distributed.NewOnce(client, "migrate/v7", once.WithVolatile())
			err := migrate.Do(context.Background(), func(ctx context.Context) error {
				migrations.Add(1)
				return ctx.Err() // cancelled before anybody else may start
			})
			if err != nil {
				log.Fatal(err)
			}
			// From here on the database is migrated, whoever did it.
		})
	}
	replicas.Wait()
	fmt.Println("migrations:", migrations.Load())
	// Output: migrations: 1
}

func ExampleValue() {
	client := open()
	defer client.Close()

	type Catalog struct{ Products int }
	catalog := distributed.NewValue(client, "catalog/v3", func(context.Context) (Catalog, error) {
		fmt.Println("computed")
		return Catalog{Products: 7}, nil
	}, once.WithExpiry(24*time.Hour)) // and anew tomorrow
	for range 2 {
		c, err := catalog.Get(context.Background())
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(c.Products, "products")
	}
	// Output:
	// computed
	// 7 products
	// 7 products
}

func ExampleGroup_Do() {
	// Ten processes miss the same entry of a cache, a hundred times each, and the
	// database is asked one time.
	server := memory.NewServer()
	var queries atomic.Int64
	query := func(ctx context.Context) (string, error) {
		queries.Add(1)
		return "Ada", ctx.Err() // cancelled when nobody waits for it any more
	}
	var processes sync.WaitGroup
	for range 10 {
		client := locker.New(server.Backend())
		defer client.Close()
		// A result serves who comes within a second of it, too. Without
		// WithFresh it is for those who came before it was there.
		users := distributed.NewGroup[string](client, "users", once.WithFresh(time.Second))
		for range 100 {
			processes.Go(func() {
				name, _, err := users.Do(context.Background(), "42", query)
				if err != nil || name != "Ada" {
					log.Fatal(name, err)
				}
			})
		}
	}
	processes.Wait()
	fmt.Println("queries:", queries.Load())
	// Output: queries: 1
}

func ExampleOpen() {
	_, err := distributed.Open("redis://127.0.0.1")
	fmt.Println(errors.Is(err, distributed.ErrInvalid))
	// Output: true
}
