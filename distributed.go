package distributed

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"

	_ "github.com/distributed-go/distributed/dflockd" // registers dflockd:// and dflockds://
	"github.com/distributed-go/distributed/locker"
	_ "github.com/distributed-go/distributed/memory" // registers memory://
	"github.com/distributed-go/distributed/mutex"
	"github.com/distributed-go/distributed/once"
	"github.com/distributed-go/distributed/semaphore"
)

// DefaultURL is what Default opens unless DISTRIBUTED_URL says otherwise.
const DefaultURL = "dflockd://127.0.0.1:6388"

type (
	// A Client acquires leases from a backend and keeps them alive. It is
	// [locker.Client], whose page lists its methods.
	Client = locker.Client

	// A Lease is one hold, and the truth about it. It is [locker.Lease].
	Lease = locker.Lease

	// A Ticket is a place in a queue. It is [locker.Ticket]; a Mutex has
	// [mutex.Ticket].
	Ticket = locker.Ticket

	// An Option changes how leases are acquired and kept: [locker.WithTTL],
	// [locker.WithWait] and their like.
	Option = locker.Option

	// A Mutex is the distributed counterpart of sync.Mutex. It is
	// [mutex.Mutex], whose page lists its methods.
	Mutex = mutex.Mutex

	// An RWMutex is the distributed counterpart of sync.RWMutex. It is
	// [mutex.RW], whose page lists its methods.
	RWMutex = mutex.RW

	// A Semaphore is the distributed counterpart of x/sync's Weighted. It is
	// [semaphore.Weighted], whose page lists its methods.
	Semaphore = semaphore.Weighted

	// A Once is the distributed counterpart of sync.Once. It is [once.Once],
	// whose page lists its methods.
	Once = once.Once

	// A Value is the distributed counterpart of what sync.OnceValue makes. It
	// is [once.Value], whose page lists its methods.
	Value[T any] = once.Value[T]

	// A Group is the distributed counterpart of x/sync's singleflight. It is
	// [once.Group], whose page lists its methods.
	Group[T any] = once.Group[T]

	// An OnceOption changes a Once, a Value or a Group: [once.WithExpiry],
	// [once.WithFresh] and their like.
	OnceOption = once.Option
)

// The errors that callers tell apart with errors.Is. Each is the one of package
// locker, or of mutex, which documents it; locker has some more.
var (
	ErrLocked        = locker.ErrLocked        // somebody else holds the key
	ErrLost          = locker.ErrLost          // the lease ended before its holder released it
	ErrNotHeld       = locker.ErrNotHeld       // not held by this handle
	ErrUnavailable   = locker.ErrUnavailable   // the backend could not be reached
	ErrUpgrade       = mutex.ErrUpgrade        // an RWMutex is held by the caller already
	ErrLimitMismatch = locker.ErrLimitMismatch // the key is in use with another limit
	ErrAuth          = locker.ErrAuth          // the credentials were refused
	ErrInvalid       = locker.ErrInvalid       // the argument can never be right
	ErrClosed        = locker.ErrClosed        // the client was closed
)

// Open returns a Client of the backend that the URL names. It does no I/O: a
// server that cannot be reached shows when something is acquired.
//
//	dflockd://h1:6388,h2:6388?ttl=10s   dflockd, or a shard of several
//	dflockds://h1:6388                  the same over TLS
//	memory://                           this client alone, for tests
//
// Package dflockd lists the parameters of its URLs. Secrets and TLS settings are
// options, locker.WithSecret and locker.WithTLS, never part of the URL. The
// error matches ErrInvalid.
func Open(url string, opts ...Option) (*Client, error) { return locker.Open(url, opts...) }

// Default returns the process's own Client, opening it at the first call: on
// the URL in the environment variable DISTRIBUTED_URL, else on DefaultURL, with
// the secret in DISTRIBUTED_SECRET, or in the file that DISTRIBUTED_SECRET_FILE
// names, if any. It panics if those are not valid, because it has no error to
// return; it does no other I/O. The Client lives as long as the process: do not
// close it.
func Default() *Client { return defaultClient() }

var defaultClient = sync.OnceValue(func() *Client {
	c, err := openDefault(os.Getenv)
	if err != nil {
		panic(err)
	}
	return c
})

// openDefault opens what the environment says.
func openDefault(getenv func(string) string) (*Client, error) {
	url := getenv("DISTRIBUTED_URL")
	if url == "" {
		url = DefaultURL
	}
	secret := getenv("DISTRIBUTED_SECRET")
	if file := getenv("DISTRIBUTED_SECRET_FILE"); secret == "" && file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("distributed: DISTRIBUTED_SECRET_FILE: %w", err)
		}
		secret = strings.TrimRight(string(b), "\r\n")
	}
	return Open(url, locker.WithSecret(secret))
}

// NewMutex returns a Mutex on the key. It does no I/O, and panics if the client
// is nil; a bad key is returned, or thrown, by its first use.
func NewMutex(c *Client, key string, opts ...Option) *Mutex { return mutex.New(c, key, opts...) }

// NewRWMutex returns an RWMutex on the key. It does no I/O, and panics if the
// client is nil; a bad key is returned, or thrown, by its first use. It and a
// Mutex of the same key do not exclude each other.
func NewRWMutex(c *Client, key string, opts ...Option) *RWMutex { return mutex.NewRW(c, key, opts...) }

// NewSemaphore returns a Semaphore of n on the key. It does no I/O, and panics
// if the client is nil; a bad key or n is returned by its first use.
func NewSemaphore(c *Client, key string, n int64, opts ...Option) *Semaphore {
	return semaphore.New(c, key, n, opts...)
}

// NewOnce returns a Once on the key. It does no I/O, and panics if the client is
// nil; a bad key or option is returned by its first use.
func NewOnce(c *Client, key string, opts ...OnceOption) *Once { return once.New(c, key, opts...) }

// NewValue returns a Value on the key, which f computes once. It does no I/O, and
// panics if the client or f is nil; a bad key or option is returned by its first
// use. It and a Once must not have the same key.
func NewValue[T any](c *Client, key string, f func(ctx context.Context) (T, error), opts ...OnceOption) *Value[T] {
	return once.NewValue(c, key, f, opts...)
}

// NewGroup returns a Group with a name of its own for its keys. It does no I/O, and
// panics if the client is nil; a bad name or option is returned by its first use.
func NewGroup[T any](c *Client, name string, opts ...OnceOption) *Group[T] {
	return once.NewGroup[T](c, name, opts...)
}
