package locker

import (
	"context"
	"log/slog"
	"time"
)

// A Kind is the space of names that a key lives in. Keys of different kinds
// never exclude each other, even when their names are equal.
type Kind uint8

const (
	// Exclusive keys have one holder at a time.
	Exclusive Kind = iota
	// Counting keys have a limit that the weights of their holders share.
	Counting
)

// String names the kind as users do: "lock" or "semaphore".
func (k Kind) String() string {
	if k == Counting {
		return "semaphore"
	}
	return "lock"
}

// A Request asks a backend for a lease on a key.
type Request struct {
	// Kind is the space that Key lives in.
	Kind Kind
	// Try asks for an answer at once: ErrLocked when the lease would have to
	// wait. A try never jumps the queue.
	Try bool
	// Key names what is locked: 1 to 256 bytes of UTF-8 without white space
	// or control characters. The Client checks it before it calls a backend.
	Key string
	// Limit is the sum of weights that may be held at once: 1 for Exclusive.
	Limit int
	// Weight is what this lease takes of the limit, all of it or nothing.
	Weight int
	// TTL is the lease to ask for; 0 leaves it to the backend. Backends that
	// know whole seconds only round it up.
	TTL time.Duration
	// Stamp is a reading of the clock of a Clocked backend from before it was
	// called, to spare it another; 0 if the caller has none. The Client sets it.
	Stamp time.Duration
	// Fences is how many consecutive fences the grant takes, for a holder that
	// hands it on within its process by Lease.HandOver: from 0, which means one,
	// to MaxFences. Only who takes all of the limit may ask for more than one. A
	// backend that cannot give more than one says errors.ErrUnsupported.
	Fences int
}

// A Grant is a backend's yes to a Request.
type Grant struct {
	// Token names this hold to the backend.
	Token Token
	// Fence grows with every grant of the key, over releases, expiries and
	// restarts; 0 where the backend has none. A backend never invents one.
	Fence uint64
	// TTL is the lease that the backend granted.
	TTL time.Duration
	// Session is what the hold depends on besides its TTL; nil if nothing.
	Session *Session
	// Kept is set by a backend that keeps the hold alive by itself, many by one
	// message. The Client renews such a hold only to confirm it after a wait;
	// nil stands for a hold that the Client renews.
	Kept Kept
	// Shared says that the lease of a Kept hold is that of others too, and may
	// count from before the request was made: from Kept.Since.
	Shared bool
	// Heard is a reading of the clock of a Clocked backend from when the answer had
	// come, to spare the Client another: what sleeps from then on is a holder. It is
	// 0 if the backend has none.
	Heard time.Duration
}

// A Kept is a hold that its backend keeps alive. It is safe for concurrent use.
//
// Backend.Release of it always takes effect, whatever its ctx says, which only
// bounds the waiting for the answer, and is called once: the backend keeps the
// hold alive no longer and sees to it that the server hears of the release,
// over a later connection if need be.
type Kept interface {
	// Since returns the instant from which the lease counts now, a reading of
	// the clock that the backend was given by UseClock, taken before the
	// request was sent that started its TTL last. It never falls. It may be
	// called with locks of the Client held, so it calls nobody back.
	Since() time.Duration
	// Bind says whom to tell when the backend learns that the hold is gone, in
	// the place of whoever was bound before. If it is gone already Bind returns
	// why, and nobody is told.
	Bind(Loser) error
}

// A Named is a Kept that knows the key of its hold, as it must to name it to the
// server again: then the Client need not remember it for each lease too.
type Named interface {
	Kept
	// Key never changes.
	Key() string
}

// A Loser is told, once, that a Kept hold is gone other than by Release. The
// backend calls Lose on any goroutine, without a lock that Since or Bind takes;
// the cause matches ErrLost.
type Loser interface{ Lose(cause error) }

// A Clocked backend stamps its requests itself. The Client gives it the clock,
// once, before anything else: a reading grows with the time that the machine
// was suspended, too. A backend without a clock gives no Kept holds.
type Clocked interface {
	Backend
	UseClock(now func() time.Duration)
}

// A Releaser is a Clocked backend that can bound a release by itself, for less than
// a context with a timer costs.
type Releaser interface {
	Clocked

	// ReleaseWithin is Release of a hold that the backend keeps, which waits for
	// the answer for d at most: then it returns context.DeadlineExceeded, as it
	// is or wrapped. Now is a reading of the clock from before the call.
	ReleaseWithin(now, d time.Duration, h Hold) error
}

// A Logging backend has something to tell operators that no call returns, such as
// a connection that was lost and came back. The Client gives it its logger, once,
// before anything else.
type Logging interface {
	Backend
	UseLogger(*slog.Logger)
}

// A Hold names a grant to the backend that made it.
type Hold struct {
	Kind    Kind
	Key     string
	Token   Token
	Session *Session
	Kept    Kept
}

// A Renewal is one of the renewals of a call of Backend.Renew, and afterwards
// its outcome.
type Renewal struct {
	Hold
	// TTL is the lease to ask for; a renewal always says it, because some
	// servers fall back to their default when it is missing.
	TTL time.Duration
	// Attempt counts from 1 since the last renewal that was answered. A
	// backend with more than one way to its server takes another way on a
	// later attempt.
	Attempt int

	// Granted is set by the backend: the lease that it granted.
	Granted time.Duration
	// Err is set by the backend: nil when renewed; matching ErrLost when the
	// backend says that the hold is gone; anything else means that nothing is
	// known, and the renewal is tried again.
	Err error
}

// A Backend grants leases. It has no clock and keeps no lease alive: the
// Client does both, once for all backends, so it is the Client that stamps a
// request before it hands it over. All methods are safe for concurrent use.
//
// A backend reports what it cannot do with errors.ErrUnsupported, at once,
// never with a weaker imitation. Failures that may pass, such as a server that
// cannot be reached, match ErrUnavailable; the Client retries those.
//
// Abilities that not every backend has are interfaces of their own: Queuer and
// Inspector. Package lockertest is the suite that every backend passes.
type Backend interface {
	// String names the backend in errors and logs, without secrets, for
	// example "dflockd://127.0.0.1:6388". It never changes.
	String() string

	// Acquire waits for a lease in FIFO order. When it returns an error the
	// caller holds nothing and waits for nothing: a grant that was already on
	// its way when ctx ended is given back by the backend.
	Acquire(ctx context.Context, req Request) (Grant, error)

	// Renew renews all the given holds and sets Granted or Err of each. It
	// returns when all are answered or ctx has ended.
	Renew(ctx context.Context, renewals []Renewal)

	// Release ends a hold. It is idempotent, and frees nothing but the hold
	// that its token names. The error matches ErrNotHeld when the backend
	// says that there is no such hold (any more).
	Release(ctx context.Context, h Hold) error

	// Close ends the backend's connections, its goroutines and every call in
	// flight, which return ErrClosed. A grant that no call returned any more is
	// given back, and so are, where the server can tell, the holds that nobody
	// released: the Client releases what it knows of before, but a grant may
	// have reached it as it closed. It is idempotent.
	Close() error
}

// A Queuer is a Backend that can queue for a key in two phases: take a place
// now, wait for the turn later.
type Queuer interface {
	Backend

	// Enqueue takes a place in the queue of the key, or the lease itself if
	// it is free. It does not wait for the turn. Request.Try is ignored.
	Enqueue(ctx context.Context, req Request) (Place, error)
}

// A Place is a place in a queue, or a lease that nobody has collected yet and
// that nobody renews. Its methods must not be called concurrently.
type Place interface {
	// Acquired says whether Enqueue got the lease at once.
	Acquired() bool

	// Wait waits for the turn and collects the lease, which starts its TTL
	// anew. When it returns an error the place is gone; the error matches
	// ErrPlaceExpired if the turn came and its lease ran out before Wait.
	Wait(ctx context.Context) (Grant, error)

	// Cancel gives up the place, or releases the lease that it became. It is
	// idempotent, and does nothing after Wait has returned.
	Cancel(ctx context.Context) error
}

// An Inspector is a Backend that can say who holds and who waits.
type Inspector interface {
	Backend

	// Inspect reports on every key that the backend knows, sorted by kind and
	// key.
	Inspect(ctx context.Context) (Report, error)
}

// A Forcer is a Backend that can take a lease from its holder.
type Forcer interface {
	Backend

	// Force ends the leases that are held on the key, whoever holds them, and
	// returns how many there were. Their holders are told that they were
	// revoked, and the fence of the next grant is larger.
	Force(ctx context.Context, kind Kind, key string) (int, error)
}

// A Report is what an Inspector knows.
type Report struct {
	// Connections counts the connections of all clients.
	Connections int `json:"connections"`
	// Keys lists the keys, also those that are idle.
	Keys []KeyReport `json:"keys"`
	// Servers says what each server does, of those that say so.
	Servers []ServerReport `json:"servers,omitempty"`
}

// A ServerReport is what an Inspector knows of one server.
type ServerReport struct {
	// Server is its address, as in KeyReport.
	Server string `json:"server"`
	// State is "ready", or "grace" while a server that was restarted grants
	// nothing yet, "stalled" while its disk does not answer, "draining", or
	// "failed" when its disk takes nothing more. Others may come.
	State string `json:"state"`
	// GraceEnds is the time to the end of the grace.
	GraceEnds time.Duration `json:"grace_ends_in_ns,omitempty"`
}

// A KeyReport is what an Inspector knows of one key.
type KeyReport struct {
	// Server is the address of the server that owns the key.
	Server string `json:"server,omitempty"`
	// Kind is "lock" or "semaphore".
	Kind string `json:"kind"`
	Key  string `json:"key"`
	// Limit is 1 for a lock, and 0 for a semaphore that is idle.
	Limit int `json:"limit"`
	// Holders counts the leases that are out.
	Holders int `json:"holders"`
	// Waiters counts those who queue.
	Waiters int `json:"waiters"`
	// Owner tells holders apart where the backend says more than their
	// number: the number of the holder's connection.
	Owner string `json:"owner,omitempty"`
	// Name is who holds the key, where the backend knows: host/pid/program
	// unless the holder chose another. Where several do it is the first of them.
	Name string `json:"name,omitempty"`
	// HeldFor is the time since that holder was granted it, where the backend
	// knows.
	HeldFor time.Duration `json:"held_for_ns,omitempty"`
	// Shares lists the holders of a semaphore, or of an RWMutex, where the backend
	// knows them: the first few, in the order of their grants.
	Shares []ShareReport `json:"shares,omitempty"`
	// ExpiresIn is what is left of a lock's lease.
	ExpiresIn time.Duration `json:"expires_in_ns,omitempty"`
	// Idle is the time since the last holder of a key without any; 0 too for one
	// that the server has forgotten but for its value.
	Idle time.Duration `json:"idle_ns,omitempty"`
	// Value is what is known of the value under the key; nil if there is none, or
	// the backend does not say.
	Value *ValueReport `json:"value,omitempty"`
}

// A ValueReport is what an Inspector knows of a value.
type ValueReport struct {
	// Bytes is its size.
	Bytes int `json:"bytes"`
	// Age is the time since it was put.
	Age time.Duration `json:"age_ns"`
}

// A ShareReport is what an Inspector knows of one of those who share a key.
type ShareReport struct {
	Name string `json:"name,omitempty"`
	// Weight is what the holder has of the limit.
	Weight  int           `json:"weight"`
	HeldFor time.Duration `json:"held_for_ns"`
}
