package server

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/distributed-go/distributed/internal/datadir"
	"github.com/distributed-go/distributed/internal/session"
	"github.com/distributed-go/distributed/internal/table"
)

// tidyEvery is how often the mark is looked at, which falls at most once a minute.
const tidyEvery = 20 * time.Second

// A disk is what keeps the promises of the locks over a restart. It says what may
// be granted now, and what has to be on disk before. All of it is guarded by the
// mutex of the locks, but for what never changes and the Dir, which has its own.
type disk struct {
	dir      *datadir.Dir
	found    datadir.Found
	maxGrace time.Duration
	handover handover // has its own mutex

	admitted time.Duration // the longest TTL that may be out, as far as is known
	recent   time.Duration // the longest that was asked for since the last look
	ceiling  uint64        // what the table was told
	records  map[recordKey]struct{}
	tidying  *time.Timer
	failed   error // what the log was told
	frozen   bool  // leases end without being dropped: they are for the next server
	full     fullness
	waiting  map[*base]struct{} // who waits for the next update
	since    time.Duration      // when the first since the last update began to wait, as locks.now says; 0: nobody did

	writes       []writing // changes of values that are not on disk yet, in order
	valuesFailed error     // what the log was told of them
}

// A recordKey names a lease that has a record.
type recordKey struct {
	kind  table.Kind
	key   string
	fence uint64
}

func keyOf(l *table.Lease) recordKey { return recordKey{l.Kind(), l.Key(), l.Token().Fence} }

// openDisk opens the data directory of the config. Changed is called whenever what
// may be relied on has changed, and valuesChanged the same for values.
func openDisk(cfg *Config, changed, valuesChanged func()) (*disk, error) {
	var opts datadir.Options
	if cfg.disk != nil {
		opts = *cfg.disk
	}
	opts.MaxGrace, opts.MustExist = cfg.MaxGrace, cfg.DataDirMustExist
	opts.Changed, opts.ValuesChanged = changed, valuesChanged
	dir, err := datadir.Open(cfg.DataDir, opts)
	if cfg.DataDirMustExist && errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("server: Config.DataDir: %w; see that its volume is mounted: only the very first start on it goes "+
			"without Config.DataDirMustExist", err)
	}
	if err != nil {
		return nil, fmt.Errorf("server: Config.DataDir: %w", err)
	}
	d := &disk{dir: dir, found: dir.Found(), maxGrace: cfg.MaxGrace, records: make(map[recordKey]struct{}), waiting: make(map[*base]struct{})}
	d.handover.done = make(chan struct{})
	return d, nil
}

// tell tells the operator how the start went.
func (d *disk) tell(log *slog.Logger, restored, values int) {
	log.Info("data directory opened", "starts", d.found.Boot+1, "clean", d.found.Clean || d.found.Boot == 0,
		"grace", d.found.Grace, "restored", restored, "values", values)
	for _, what := range d.found.Repaired {
		log.Warn("a damaged file of the data directory was written again from the others: after a power cut that is nothing, else look at the disk",
			"file", what)
	}
	if d.found.SetBack > time.Second {
		log.Warn("the wall clock was set back; fences go on growing", "by", d.found.SetBack)
	}
}

// configure makes a table go on where the last one ended, at the instant now.
func (d *disk) configure(c *table.Config, now time.Duration) {
	c.FirstFence = d.found.Fence
	if d.found.Grace > 0 {
		c.GraceEnd = now + d.found.Grace
		c.ClaimTTL = min(d.found.Mark, d.maxGrace)
	}
}

// restore grants what the last server left records of.
func (d *disk) restore(t *table.Table, now time.Duration) (restored int) {
	for _, r := range d.found.Records {
		rec := table.Record{Kind: table.Kind(r.Kind), Key: r.Key, Fence: r.Fence, Limit: r.Limit, Weight: r.Weight, TTL: min(r.TTL, longest)}
		if !t.Restore(now, rec) {
			d.dir.Drop(r.Kind, r.Key, r.Fence)
			continue
		}
		d.records[recordKey{rec.Kind, r.Key, r.Fence}] = struct{}{}
		restored++
	}
	return restored
}

// admit says whether a lease of the TTL may be out and so many fences be given
// after the last: if not at once the stamp says when, and the error that it will
// never be.
func (k *locks) admit(ttl time.Duration, fences int) (datadir.Stamp, error) {
	d := k.disk
	if d == nil {
		return 0, nil
	}
	if ttl <= d.maxGrace {
		d.recent = max(d.recent, ttl)
		if ttl > d.admitted {
			if stamp := d.dir.Admit(ttl); stamp != 0 {
				return k.later(stamp)
			}
			d.admitted = ttl
		}
	}
	last := k.table.Fence() + uint64(max(fences, 0))
	if fences <= 0 || last <= d.ceiling {
		return 0, nil
	}
	if stamp := d.dir.Reserve(last); stamp != 0 {
		return k.later(stamp)
	}
	k.raise(0)
	return 0, nil
}

// later takes note that somebody waits for a stamp, which may never count.
func (k *locks) later(stamp datadir.Stamp) (datadir.Stamp, error) {
	if k.disk.since == 0 {
		k.disk.since = k.now()
	}
	return stamp, k.disk.dir.Err()
}

// stalled returns for how long somebody has been waiting for the disk, with the
// mutex held.
func (d *disk) stalled(now time.Duration) time.Duration {
	since := d.since
	if len(d.writes) > 0 && (since == 0 || d.writes[0].since < since) {
		since = d.writes[0].since
	}
	if since == 0 {
		return 0
	}
	return max(now-since, 0)
}

// raise tells the table how far fences may go.
func (k *locks) raise(now time.Duration) {
	k.disk.ceiling = k.disk.dir.Ceiling()
	k.table.SetCeiling(now, k.disk.ceiling)
}

// keep says whether the holder of a lease may hear that it has it for a TTL: one
// for which there is no mark needs a record. A record of more than the lease has
// in the end is kept as long as the lease: its holder may have heard of no less.
func (k *locks) keep(l *table.Lease, ttl time.Duration) (datadir.Stamp, error) {
	d := k.disk
	if d == nil || ttl <= d.maxGrace {
		return 0, nil
	}
	stamp, err := d.dir.Keep(record(l.Record(), ttl))
	if err != nil {
		if errors.Is(err, datadir.ErrFull) {
			d.full.note(k.now())
		}
		return 0, err
	}
	d.records[keyOf(l)] = struct{}{}
	if stamp != 0 {
		return k.later(stamp)
	}
	return 0, nil
}

// A fullness says when to tell the log that there is no room for another record.
type fullness struct {
	told time.Duration // when it was, and 0 if never
	tell bool
}

// tellFullEvery is the least time between two such lines.
const tellFullEvery = time.Minute

func (f *fullness) note(now time.Duration) {
	if f.told == 0 || now >= f.told+tellFullEvery {
		f.told, f.tell = now, true
	}
}

// take says whether to tell the log now.
func (f *fullness) take() bool {
	tell := f.tell
	f.tell = false
	return tell
}

func record(r table.Record, ttl time.Duration) datadir.Record {
	return datadir.Record{Kind: uint8(r.Kind), Key: r.Key, Fence: r.Fence, Limit: r.Limit, Weight: r.Weight, TTL: ttl}
}

// forget drops the record of a lease that has ended, if it has one. The end of the
// server ends none: who held it goes on at the next one.
func (d *disk) forget(l *table.Lease) {
	if len(d.records) == 0 || d.frozen {
		return
	}
	name := keyOf(l)
	if _, ok := d.records[name]; ok {
		delete(d.records, name)
		d.dir.Drop(uint8(name.kind), name.key, name.fence)
	}
}

// verdict is what a session is told of a stamp.
func verdict(stamp datadir.Stamp, err error) session.Verdict {
	switch {
	case errors.Is(err, datadir.ErrFull):
		return session.Full
	case err != nil:
		return session.Never
	case stamp != 0:
		return session.Later
	}
	return session.Now
}

// reserve asks for fences in time, with the mutex held.
func (d *disk) reserve(t *table.Table) { d.dir.Reserve(max(t.Fence()+1, t.Wants())) }

// diskChanged is called by the Dir after each update, and when one has failed.
func (k *locks) diskChanged() {
	now := k.enter()
	err := k.disk.dir.Err()
	if errors.Is(err, datadir.ErrClosed) || k.disk.failed != nil {
		err = nil
	}
	if err != nil {
		k.disk.failed = err
	}
	k.raise(now)
	k.disk.since = 0
	for b := range k.disk.waiting {
		k.wake = append(k.wake, b)
	}
	clear(k.disk.waiting)
	k.sessions.Retry(now)
	k.leave(now)
	if err != nil {
		k.log.Error("the data directory takes nothing more: leases are renewed and released, but granted only as far as was reserved",
			"error", err)
	}
}

// tidy lets the mark fall to what the leases that there are need. It is called by
// a timer.
func (k *locks) tidy() {
	d := k.disk
	now := k.enter()
	defer func() { k.leave(now) }()
	if k.closed || k.frozen {
		return
	}
	d.tidying.Reset(tidyEvery)
	if k.table.Recovering() {
		return // more leases can come than those that there are
	}
	d.recent = 0
	need := k.table.LongestTTL(now, d.maxGrace, copyPart, func() time.Duration {
		k.leave(now)
		now = k.enter()
		return now
	})
	need = max(need, d.recent)
	d.dir.Tidy(need)
	d.admitted = min(d.admitted, need)
}

// freeze ends everything but what is held, of which it returns the records: from
// here on no request changes that any more, and none is told of a grant.
func (k *locks) freeze(all []handler) []datadir.Record {
	now := k.enter()
	k.sessions.Advance(now) // what is due is still told
	k.draining, k.frozen, k.disk.frozen = true, true, true
	k.sessions.Stop()
	held := k.table.Records(now)
	var wake []handler
	for _, h := range all {
		if h.drain(now) {
			wake = append(wake, h)
		}
	}
	k.leave(now)
	for _, h := range wake {
		h.wake()
	}
	records := make([]datadir.Record, len(held))
	for i, r := range held {
		records[i] = record(r, r.TTL)
	}
	return records
}

// A handover is the one time that what is held is written for the next server.
type handover struct {
	once sync.Once
	done chan struct{} // closed when it is over
	err  error         // why it failed; to be read after done
}
