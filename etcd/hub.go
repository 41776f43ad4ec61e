package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-go/distributed/locker"
)

const (
	// probe is how often a watch that is silent is asked for a sign of life, and
	// silence is when one that gives none is begun anew.
	probe   = 3 * time.Second
	silence = 8 * time.Second

	// idleHub is how long a watch goes on that nobody needs.
	idleHub = 10 * time.Second
)

// A hub is a watch that all in the process share. Guarded by Backend.mu.
type hub struct {
	running bool
	// from is the revision after which all events are heard; 0 while they are not.
	from int64
}

// An ear is what listens for a hub, in a goroutine of its own.
type ear struct {
	b        *Backend
	hub      *hub
	from, to string
	filter   clientv3.OpOption

	heard  func([]*clientv3.Event)
	up     func()                      // events are heard from now on; called with the lock held
	gap    func()                      // events were missed; called with the lock held
	verify func(context.Context) error // called before up, after a gap
	needed func() bool                 // called with the lock held
	denied func(error)                 // etcd refuses the watch to this user; called with the lock held

	last     int64         // the revision of the last event, or of the beginning
	missed   bool          // events were missed since the last up
	usedAt   time.Duration // when it was needed last
	heardOne bool          // since the last probe
}

// hearLocked begins a watch if there is none.
func (b *Backend) hearLocked(h *hub, run func()) {
	if !h.running {
		h.running = b.background(run)
	}
}

// listen watches until the Backend is closed or nobody needs it any more.
func (e *ear) listen() {
	e.usedAt = e.b.now()
	pauses := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(firstPause), backoff.WithMaxInterval(longestPause),
		backoff.WithMultiplier(2), backoff.WithMaxElapsedTime(0))
	for {
		began := e.b.now()
		err := e.once()
		if err == nil || e.b.life.Err() != nil {
			return
		}
		if refusal := e.b.explain(err); errors.Is(refusal, locker.ErrAuth) {
			e.b.mu.Lock()
			e.denied(refusal)
			e.b.mu.Unlock()
		}
		if e.b.now()-began > silence {
			pauses.Reset()
		}
		t := time.NewTimer(pauses.NextBackOff())
		select {
		case <-t.C:
		case <-e.b.life.Done():
		}
		t.Stop()
	}
}

// errSilent says that a watch gave no sign of life.
var errSilent = fmt.Errorf("%w: the watch is silent", locker.ErrUnavailable)

// once watches until the watch breaks. It returns nil if it is not needed any more.
func (e *ear) once() error {
	c, err := e.b.connect()
	if err != nil {
		return err
	}
	// A watcher of its own has a stream of its own, on which nobody else's watches
	// keep etcd from answering when it is asked for a sign of life.
	w := clientv3.NewWatcher(c)
	defer w.Close()
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(e.b.life))
	defer cancel()
	deaf := time.AfterFunc(silence, cancel)
	defer deaf.Stop()
	opts := []clientv3.OpOption{clientv3.WithRange(e.to), e.filter, clientv3.WithCreatedNotify()}
	if e.last > 0 {
		opts = append(opts, clientv3.WithRev(e.last+1))
	}
	ch := w.Watch(ctx, e.from, opts...)
	tick := time.NewTicker(probe)
	defer tick.Stop()
	for {
		select {
		case r, ok := <-ch:
			if !ok {
				return errSilent
			}
			deaf.Reset(silence)
			if err := e.take(ctx, &r); err != nil {
				return err
			}
		case <-tick.C:
			if e.idle() {
				return nil
			}
			if !e.heardOne {
				ask, cancel := context.WithTimeout(ctx, probe/2)
				_ = w.RequestProgress(ask) // the silence will tell
				cancel()
			}
			e.heardOne = false
		}
	}
}

// take takes a message of the watch.
func (e *ear) take(ctx context.Context, r *clientv3.WatchResponse) error {
	e.heardOne = true
	if r.CompactRevision != 0 {
		e.last, e.missed = 0, true
		e.b.mu.Lock()
		defer e.b.mu.Unlock()
		e.hub.from = 0
		e.gap()
		return r.Err()
	}
	if err := r.Err(); err != nil {
		return err
	}
	if r.Created && e.last == 0 {
		if e.missed {
			if err := e.verify(ctx); err != nil {
				return err
			}
		}
		e.last, e.missed = r.Header.Revision, false
		e.b.mu.Lock()
		e.hub.from = e.last
		e.up()
		e.b.mu.Unlock()
	}
	if n := len(r.Events); n > 0 {
		e.heard(r.Events)
		e.last = max(e.last, r.Events[n-1].Kv.ModRevision)
	}
	return nil
}

// idle says whether nobody has needed the watch for a while; then it is over.
func (e *ear) idle() bool {
	e.b.mu.Lock()
	defer e.b.mu.Unlock()
	now := e.b.now()
	if e.needed() {
		e.usedAt = now
	}
	if now-e.usedAt < idleHub {
		return false
	}
	*e.hub = hub{}
	return true
}

// hearDeletions listens for keys that are deleted.
func (b *Backend) hearDeletions() {
	from, to := b.keys.span()
	e := &ear{
		b: b, hub: &b.hub, from: from, to: to, filter: clientv3.WithFilterPut(),
		heard: b.heardDeletions,
		up: func() {
			for _, q := range b.queues {
				b.settleLocked(q)
			}
		},
		gap: func() {
			for _, q := range b.queues {
				q.line.forget()
			}
		},
		verify: b.verify,
		needed: func() bool {
			for _, q := range b.queues {
				if len(q.waiting) > 0 {
					return true
				}
			}
			return false
		},
		denied: func(err error) { // who waits would hear of nothing any more
			for _, q := range b.queues {
				for _, e := range slices.Clone(q.waiting) {
					b.eraseLocked(e, err, nil)
				}
			}
		},
	}
	e.listen()
}

// hearRevocations listens for what Force says to those whose holds it ends.
func (b *Backend) hearRevocations() {
	revoked := b.keys.revoked()
	from, to := revoked.span()
	e := &ear{
		b: b, hub: &b.warner, from: from, to: to, filter: clientv3.WithFilterDelete(),
		heard: func(events []*clientv3.Event) {
			var after aftermath
			defer after.run()
			b.mu.Lock()
			defer b.mu.Unlock()
			for _, ev := range events {
				s, name, _ := revoked.parse(ev.Kv.Key)
				if e := b.entries.get(ident{s, name}); e != nil {
					b.goneLocked(e, ev.Kv.ModRevision, fmt.Errorf("%w: by force", locker.ErrRevoked), &after)
				}
			}
		},
		up:     func() {},
		gap:    func() {},
		verify: b.verify,
		needed: func() bool { return b.entries.len() > 0 },
		denied: func(error) {}, // as the renewals are
	}
	e.listen()
}

// checked is how many holds of a lease are looked for after each of its renewals.
const checked = 100

// checkHolds looks whether the keys of some holds, chosen at random, are still
// there: nobody tells of those that are deleted by hand. Where one is not, it looks for
// all: who deletes by hand often deletes a whole range.
func (b *Backend) checkHolds(ctx context.Context, l *lease) {
	if b.missingHolds(ctx, l) {
		_ = b.verify(ctx) // or the next renewal will tell
	}
}

// missingHolds looks for some holds, and says whether one is lost.
func (b *Backend) missingHolds(ctx context.Context, l *lease) (missing bool) {
	var some []*entry
	var ops []clientv3.Op
	b.mu.Lock()
	for e := range b.entries.all() {
		if e.lease == l && e.state == holding && len(some) < checked {
			some = append(some, e)
			ops = append(ops, clientv3.OpGet(b.keys.entry(e.subject(), e.name()), clientv3.WithKeysOnly()))
		}
	}
	b.mu.Unlock()
	if len(ops) == 0 {
		return false
	}
	answers, rev, err := b.do(ctx, ops...)
	if err != nil {
		return false // the next renewal will tell
	}
	var after aftermath
	defer after.run()
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, e := range some {
		kvs := answers[i].GetResponseRange().Kvs
		if e.state == holding && (len(kvs) == 0 || kvs[0].CreateRevision != e.rev) {
			b.goneLocked(e, rev, l.deletion(), &after)
			missing = true
		}
	}
	return missing
}

func (b *Backend) heardDeletions(events []*clientv3.Event) {
	var after aftermath
	defer after.run()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ev := range events {
		if ev.Type != clientv3.EventTypeDelete {
			continue
		}
		if s, name, ok := b.keys.parse(ev.Kv.Key); ok {
			b.deletedLocked(s, name, ev.Kv.ModRevision, &after)
		}
	}
}

// verify looks for all holds whose keys were deleted, as after a gap.
func (b *Backend) verify(ctx context.Context) error {
	c, err := b.connect()
	if err != nil {
		return err
	}
	from, to := b.keys.span()
	r, err := c.Get(ctx, from, clientv3.WithRange(to), clientv3.WithKeysOnly())
	if err != nil {
		return err
	}
	there := make(map[ident]int64, len(r.Kvs))
	for _, kv := range r.Kvs {
		if s, name, ok := b.keys.parse(kv.Key); ok {
			there[ident{s, name}] = kv.CreateRevision
		}
	}
	var after aftermath
	defer after.run()
	b.mu.Lock()
	defer b.mu.Unlock()
	for e := range b.entries.all() {
		if e.state == holding && e.rev <= r.Header.Revision && there[e.ident()] != e.rev {
			b.goneLocked(e, r.Header.Revision, e.lease.deletion(), &after)
		}
	}
	return nil
}
