package main

import (
	"context"
	"time"

	"github.com/distributed-go/distributed/internal/measure"
	"github.com/distributed-go/distributed/internal/plot"
)

// A rival is a client of a lock library.
type rival interface {
	// mutex is what one goroutine locks and unlocks. Contended says that others
	// of this process want the same key at the same time.
	mutex(key string, contended bool) (measure.Lock, error)
	// hold takes a key that nobody holds, for longer than it is looked at.
	hold(ctx context.Context, key string) (holding, error)
	close() error
}

// A holding is a lock that is held.
type holding interface {
	release(ctx context.Context) error
	// lost is closed when the library says that the lock is lost; nil if it has
	// no way to say so.
	lost() <-chan struct{}
}

// A system is a library with its server.
type system struct {
	name  string
	class plot.Class
	// serve starts a server, in its own process; its files go to dir.
	serve func(ctx context.Context, dir string) (*backend, error)
	// dial opens a client; nil is the echo, which has no locks.
	dial func(addr string) (rival, error)
	// note says what was chosen where there was a choice.
	note string
}

// ttl is the lease where it is ours to choose.
const ttl = 10 * time.Second

// heldTTL is the lease of libraries that renew nothing, where many are held.
const heldTTL = time.Minute

// limitName is the yardstick, and the first of the systems.
const limitName = "bare echo, the limit"

// systems are all there are.
var systems = []*system{
	{name: limitName, class: plot.Limit, serve: serveEcho},
	{name: "the echo's second copy", class: plot.Limit, serve: serveEcho},
	{name: "distributed", class: plot.Ours, serve: serveLocks, dial: dialOurs, note: "TTL 10 s"},
	{name: "etcd concurrency.Mutex", class: plot.Rival, serve: serveEtcd, dial: dialEtcd,
		note: "embedded etcd 3.7.3, one node, data in memory (/dev/shm) where there is such a place, session TTL 10 s (the default is 60); where goroutines want the same key each has a session of its own, because a mutex belongs to its session"},
	{name: "redsync", class: plot.Rival, serve: serveRedis, dial: dialRedsync,
		note: "v4.18.1, defaults (a try every 50 to 250 ms), expiry 1 min; it renews nothing and tells of no loss; what gave up after its 32 tries tries again"},
	{name: "redislock", class: plot.Rival, serve: serveRedis, dial: dialRedislock,
		note: "v0.9.4, TTL 1 min, a try every 100 ms; it renews nothing and tells of no loss"},
	{name: "rueidislock", class: plot.Rival, serve: serveRedis, dial: dialRueidis,
		note: "v1.0.79, KeyMajority 1 and NoLoopTracking as its manual has it for one server, validity 5 s"},
}

func find(name string) *system {
	for _, s := range systems {
		if s.name == name {
			return s
		}
	}
	return nil
}
