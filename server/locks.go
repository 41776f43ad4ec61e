package server

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distributed-go/distributed/internal/datadir"
	"github.com/distributed-go/distributed/internal/session"
	"github.com/distributed-go/distributed/internal/table"
)

// locks is the lock table with what it lacks as a state machine: a mutex, a
// clock, and a timer that brings it to the next instant at which something is
// due.
type locks struct {
	origin time.Time     // the instant of the table's time
	sweep  time.Duration // the timer fires at least this often while it is needed
	log    *slog.Logger  // gets what operators should know
	debug  *slog.Logger  // gets the leases that ended by themselves; nil for none
	deaths *deaths       // of the processes of sessions
	disk   *disk         // nil without a data directory
	lost   atomic.Int64  // the pauses that were taken off the clock; written with mu held

	mu       sync.Mutex
	table    *table.Table    // guarded by mu, as is everything below
	sessions *session.Server // over the table, whose events it reads
	wake     []party         // whom to wake after mu
	ended    []table.Event   // what to tell debug of after mu
	revoked  []revocation    // what to tell log of after mu
	timer    *time.Timer     // calls tick
	armed    time.Duration   // when the timer fires; 0: it does not
	draining bool            // nothing is granted any more
	frozen   bool            // nothing that is held changes by a request
	closed   bool            // nobody looks any more
	seen     time.Duration   // the latest look at the clock
	paused   time.Duration   // what to tell log of one after mu
	drained  chan struct{}   // closed when draining has come to its end
}

// A party is whom leases belong to: the Tag of each.
type party interface {
	// happened hears of each event of the party's leases, with the mutex held,
	// and says whether to call wake once it is not.
	happened(table.Event) bool
	// wake is called without the mutex, on the goroutine of whoever caused
	// the event. It must not block.
	wake()
}

func newLocks(cfg Config) (*locks, error) {
	origin := time.Now()
	k := &locks{
		origin: origin, sweep: min(cfg.LeaseSweepInterval, pauseTick), log: cfg.Logger, drained: make(chan struct{}),
	}
	tc := table.Config{
		FirstFence: firstFence(origin),
		MaxKeys:    cfg.MaxLocks, MaxWaiters: cfg.MaxWaiters,
		MaxIdle: cfg.GCMaxIdle, PruneInterval: cfg.GCInterval,
		MaxValue: cfg.MaxValue, MaxValues: cfg.MaxValues,
	}
	secret, err := k.remember(&cfg, &tc)
	if err != nil {
		return nil, err
	}
	tc.Sign = newSigner(secret)
	k.table = table.New(tc)
	k.deaths = newDeaths(k, cfg.IgnoreProcesses)
	k.sessions = newSessions(k, cfg.DefaultLeaseTTL)
	if cfg.Debug {
		k.debug = cfg.Logger
	}
	k.mu.Lock() // the timer must not find itself missing, however unlikely
	k.timer = time.AfterFunc(time.Hour, k.tick)
	k.timer.Stop()
	k.mu.Unlock()
	k.recall()
	return k, nil
}

// remember opens the data directory, if there is to be one, and returns the key
// of the tokens.
func (k *locks) remember(cfg *Config, tc *table.Config) (secret []byte, err error) {
	if cfg.DataDir == "" {
		return newSecret()
	}
	if k.disk, err = openDisk(cfg, k.diskChanged, k.valuesChanged); err != nil {
		return nil, err
	}
	k.disk.configure(tc, k.now())
	tc.Ended = k.disk.forget
	return k.disk.found.Key[:], nil
}

// recall brings back what the data directory remembers.
func (k *locks) recall() {
	if k.disk == nil {
		return
	}
	now := k.enter()
	k.raise(now)
	restored := k.disk.restore(k.table, now)
	values := k.disk.restoreValues(k.table, now)
	k.disk.tidying = time.AfterFunc(tidyEvery, k.tidy)
	k.leave(now)
	k.disk.tell(k.log, restored, values)
}

// firstFence returns the wall clock in nanoseconds: no server makes a grant a
// nanosecond, so that its successor's fences are larger, if the clock was not
// set back. A clock from before 1970 or after 2262 has no such number.
func firstFence(now time.Time) uint64 { return uint64(max(now.UnixNano(), 0)) }

// now returns the time since the origin, which is never 0: the table takes 0 for
// never. The table's time is this one without the pauses.
func (k *locks) now() time.Duration { return time.Since(k.origin) + 1 }

// enter takes the mutex and returns the table's time. Each enter ends with
// leave, on every path.
func (k *locks) enter() time.Duration {
	now := k.now() // before the mutex: the table takes times out of order
	k.mu.Lock()
	return k.withoutPauses(now)
}

const (
	// pauseTick is the longest time between two looks at the clock, while there
	// are leases.
	pauseTick = 250 * time.Millisecond
	// longestTick is what may pass between two looks before it counts as a pause.
	longestTick = time.Second
)

// withoutPauses returns the table's time, with the mutex held. When this process
// was stopped for a while, its clients may have been so too, or their renewals may
// wait to be read. So a pause is no time: whatever would have ended in it ends
// that much later, which can only delay others.
func (k *locks) withoutPauses(now time.Duration) time.Duration {
	if gap := now - k.seen; gap > longestTick && k.armed != 0 {
		k.lost.Add(int64(gap))
		k.paused += gap
	}
	k.seen = max(k.seen, now)
	return now - time.Duration(k.lost.Load())
}

// pauses returns how long this process was stopped in all: as far as is known, or
// with a look at whether it is just back.
func (k *locks) pauses(look bool) time.Duration {
	if look {
		k.leave(k.enter())
	}
	return time.Duration(k.lost.Load())
}

// leave gives the mutex back, sees to it that the timer fires when it is needed
// next, and then tells those who have to know what happened since enter.
func (k *locks) leave(now time.Duration) {
	k.sessions.Settle()
	var room [8]party // for all but mass events, so that nothing is allocated
	wake, ended, revoked := append(room[:0], k.wake...), k.ended, k.revoked
	clear(k.wake)
	paused := k.paused
	k.wake, k.ended, k.revoked, k.paused = k.wake[:0], nil, nil, 0
	full := false
	if k.disk != nil {
		k.disk.reserve(k.table)
		full = k.disk.full.take()
	}
	k.arm(now)
	if k.draining && k.table.Held() == 0 {
		k.endDrain()
	}
	k.mu.Unlock()
	for _, p := range wake {
		p.wake()
	}
	if paused > 0 {
		k.log.Warn("the server was paused: all leases last that much longer", "for", paused)
	}
	if full {
		k.log.Warn("no room for the record of another long lease: it is refused", "most", datadir.MaxLong, "longer-than", k.disk.maxGrace)
	}
	for _, e := range ended {
		k.tell(e)
	}
	for _, r := range revoked {
		k.log.Warn("key taken away", "kind", kindName(r.kind), "key", r.key, "holds", r.ended, "by", r.by, "remote", r.remote)
	}
}

// happened takes note of an event, with the mutex held. What those of sessions
// mean for them their Server knows.
func (k *locks) happened(e table.Event) {
	if p, ok := e.Lease.Tag.(party); ok && p.happened(e) {
		k.wake = append(k.wake, p)
	}
	if k.debug != nil && (e.Kind == table.EventExpired || e.Kind == table.EventAbandoned) {
		k.ended = append(k.ended, e)
	}
}

// tell tells debug of a lease that ended by itself.
func (k *locks) tell(e table.Event) {
	msg, l := "lease expired", e.Lease
	if e.Kind == table.EventAbandoned {
		msg = "place of a silent session given up"
	}
	k.debug.Debug(msg, "kind", kindName(l.Kind()), "key", l.Key(), "fence", l.Token().Fence, "conn", l.Owner().ID(), "name", l.Owner().Name)
}

// A revocation is what operators should know of a key that was taken away.
type revocation struct {
	kind   table.Kind
	key    string
	ended  int    // so many held it
	by     string // what the one who did it calls itself, empty if it does not
	remote net.Addr
}

// forced takes note of a revocation, with the mutex held. It is told of even if
// nobody held the key: whoever tries that should be known.
func (k *locks) forced(r revocation) { k.revoked = append(k.revoked, r) }

// arm makes sure that the timer fires no later than something is due. One that
// fires too early finds nothing and arms itself again: that is cheaper than to
// move it with each of a million leases.
func (k *locks) arm(now time.Duration) {
	next, ok := k.sessions.Next()
	if !ok || k.closed {
		return
	}
	next = min(next, now+k.sweep)
	if k.armed == 0 || next < k.armed {
		k.armed = next
		k.timer.Reset(next - now)
	}
}

// tick is what the timer does.
func (k *locks) tick() {
	now := k.enter()
	k.armed = 0
	k.sessions.Advance(now)
	k.leave(now)
}

// newOwner returns an owner of leases without any.
func (k *locks) newOwner(id uint64) *table.Owner {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.table.NewOwner(id)
}

// startDrain makes acquisitions be refused from here on, and drained be closed
// as soon as nothing is held.
func (k *locks) startDrain() {
	now := k.enter()
	k.draining = true
	k.sessions.Drain(now)
	k.leave(now)
}

// giveUp gives up all that the handlers wait for.
func (k *locks) giveUp(all []handler) {
	var wake []handler
	now := k.enter()
	for _, h := range all {
		if h.drain(now) {
			wake = append(wake, h)
		}
	}
	k.leave(now)
	for _, h := range wake {
		h.wake()
	}
}

// endDrain may be called twice, with the mutex held.
func (k *locks) endDrain() {
	select {
	case <-k.drained:
	default:
		close(k.drained)
	}
}

// close stops the timers, and ends a drain with whatever is still held: leases
// that were kept over the end of their connection are forgotten, unless there is
// a data directory. What that still has to write may take it beyond the end of
// ctx, but not this call for more than a second.
func (k *locks) close(ctx context.Context) {
	k.deaths.close()
	k.mu.Lock()
	k.closed = true
	k.timer.Stop()
	k.endDrain()
	if k.disk != nil {
		k.disk.tidying.Stop()
	}
	k.mu.Unlock()
	if k.disk != nil {
		within(ctx, k.disk.dir.Close) //nolint:errcheck // what mattered of it was told before
	}
}

func kindName(kind table.Kind) string {
	if kind == table.Semaphore {
		return "semaphore"
	}
	return "lock"
}
