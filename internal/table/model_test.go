package table

import (
	"cmp"
	"slices"
	"time"
)

// The model is the table again, written to be obviously right and nothing
// else: one slice of rows, searched from end to end for every question, with
// no list, heap, count or index that could disagree with it.
type model struct {
	cfg       Config
	now       time.Duration
	rows      []*row // everything ever asked for, in order of arrival
	keys      map[keyID]*modelKey
	fence     uint64
	idled     int // counts keys becoming idle
	nextPrune time.Duration
	events    []modelEvent
}

type keyID struct {
	kind Kind
	name string
}

type modelKey struct {
	limit int
	idle  bool
	since time.Duration
	turn  int // the how-manieth key to become idle
}

type row struct {
	id       keyID
	owner    int
	ttl      time.Duration
	weight   int
	state    State
	reason   Reason
	arrival  int
	fence    uint64
	deadline time.Duration // 0 is never
}

type modelEvent struct {
	row  *row
	kind EventKind
}

func newModel(cfg Config) *model {
	return &model{cfg: cfg, keys: make(map[keyID]*modelKey), fence: cfg.FirstFence}
}

// in returns the key's rows in the given state, in order.
func (m *model) in(id keyID, s State) []*row {
	var rows []*row
	for _, r := range m.rows {
		if r.id == id && r.state == s {
			rows = append(rows, r)
		}
	}
	if s == Granted {
		slices.SortFunc(rows, func(a, b *row) int { return cmp.Compare(a.fence, b.fence) })
	}
	return rows
}

func (m *model) count(s State) int {
	n := 0
	for _, r := range m.rows {
		if r.state == s {
			n++
		}
	}
	return n
}

func (m *model) used(id keyID) int {
	n := 0
	for _, r := range m.in(id, Granted) {
		n += r.weight
	}
	return n
}

// nextDue returns the row that ends by itself first, or nil.
func (m *model) nextDue() *row {
	var first *row
	for _, r := range m.rows {
		if r.state == Ended || r.deadline == 0 {
			continue
		}
		if first == nil || dueBefore(r, first) {
			first = r
		}
	}
	return first
}

func dueBefore(a, b *row) bool {
	switch {
	case a.deadline != b.deadline:
		return a.deadline < b.deadline
	case a.state != b.state:
		return a.state == Granted
	case a.state == Granted:
		return a.fence < b.fence
	}
	return a.arrival < b.arrival
}

// longestIdle returns the key that became idle before all others.
func (m *model) longestIdle() (keyID, *modelKey) {
	var id keyID
	var first *modelKey
	for i, k := range m.keys {
		if k.idle && (first == nil || k.turn < first.turn) {
			id, first = i, k
		}
	}
	return id, first
}

func (m *model) advance(now time.Duration) {
	m.now = max(m.now, now)
	for r := m.nextDue(); r != nil && r.deadline <= m.now; r = m.nextDue() {
		kind, why := EventExpired, Expired
		if r.state == Queued {
			kind, why = EventTimedOut, TimedOut
		}
		m.events = append(m.events, modelEvent{r, kind})
		m.end(r, why)
	}
	pruned := false
	for id, k := m.longestIdle(); k != nil && m.now >= m.nextPrune && k.since+m.cfg.MaxIdle <= m.now; id, k = m.longestIdle() {
		delete(m.keys, id)
		pruned = true
	}
	if pruned {
		m.nextPrune = m.now + m.cfg.PruneInterval
	}
}

func (m *model) next() (time.Duration, bool) {
	var at time.Duration
	_, k := m.longestIdle()
	if k != nil {
		at = max(m.nextPrune, k.since+m.cfg.MaxIdle)
	}
	if r := m.nextDue(); r != nil && (k == nil || r.deadline < at) {
		return r.deadline, true
	}
	return at, k != nil
}

func (m *model) end(r *row, why Reason) {
	r.state, r.reason = Ended, why
	m.settle(r.id)
}

func (m *model) settle(id keyID) {
	k := m.keys[id]
	for _, r := range m.in(id, Queued) {
		if m.used(id)+r.weight > k.limit {
			break
		}
		m.grant(r)
		m.events = append(m.events, modelEvent{r, EventGranted})
	}
	if len(m.in(id, Granted)) == 0 && !k.idle {
		m.idled++
		k.idle, k.since, k.turn = true, m.now, m.idled
	}
}

func (m *model) grant(r *row) {
	m.fence++
	r.state, r.fence, r.deadline = Granted, m.fence, m.now+r.ttl
	m.keys[r.id].idle = false
}

func (m *model) acquire(now time.Duration, owner int, q Request) (*row, error) {
	m.advance(now)
	id := keyID{q.Kind, string(q.Key)}
	limit := 1
	if q.Kind == Semaphore {
		limit = q.Limit
	}
	if q.Weight < 1 || q.Weight > limit {
		return nil, ErrWeight
	}
	if q.TTL <= 0 {
		return nil, ErrTTL
	}
	if m.keys[id] == nil {
		if m.cfg.MaxKeys > 0 && len(m.keys) >= m.cfg.MaxKeys {
			old, k := m.longestIdle()
			if k == nil {
				return nil, ErrTooManyKeys
			}
			delete(m.keys, old)
		}
		m.keys[id] = &modelKey{limit: limit}
	}
	if m.keys[id].limit != limit {
		return nil, ErrLimitMismatch
	}
	queue := m.in(id, Queued)
	r := &row{id: id, owner: owner, ttl: q.TTL, weight: q.Weight, arrival: len(m.rows), deadline: q.WaitUntil}
	if len(queue) == 0 && m.used(id)+q.Weight <= limit {
		m.rows = append(m.rows, r)
		m.grant(r)
		return r, nil
	}
	if q.Try || q.WaitUntil != 0 && q.WaitUntil <= m.now {
		return nil, ErrLocked
	}
	if m.cfg.MaxWaiters > 0 && len(queue) >= m.cfg.MaxWaiters {
		return nil, ErrTooManyWaiters
	}
	m.rows = append(m.rows, r)
	return r, nil
}

func (m *model) await(now time.Duration, r *row, until time.Duration) {
	m.advance(now)
	if r.state == Queued {
		r.deadline = until
		m.advance(now)
	}
}

func (m *model) collect(now time.Duration, r *row) error {
	m.advance(now)
	if r.state == Granted {
		r.deadline = m.now + r.ttl
		return nil
	}
	if r.reason == Expired {
		return ErrExpired
	}
	return ErrNotHeld
}

func (m *model) cancel(now time.Duration, r *row) {
	m.advance(now)
	if r.state == Queued {
		m.end(r, Cancelled)
	} else if r.state == Granted {
		m.end(r, Released)
	}
}

// find returns the row that a key and a fence name.
func (m *model) find(id keyID, fence uint64) *row {
	for _, r := range m.in(id, Granted) {
		if r.fence == fence {
			return r
		}
	}
	return nil
}

func (m *model) renew(now time.Duration, id keyID, fence uint64, ttl time.Duration) (time.Duration, error) {
	m.advance(now)
	if ttl <= 0 {
		return 0, ErrTTL
	}
	r := m.find(id, fence)
	if r == nil {
		return 0, ErrNotHeld
	}
	r.ttl, r.deadline = ttl, m.now+ttl
	return ttl, nil
}

func (m *model) release(now time.Duration, id keyID, fence uint64) error {
	m.advance(now)
	r := m.find(id, fence)
	if r == nil {
		return ErrNotHeld
	}
	m.end(r, Released)
	return nil
}

func (m *model) drop(now time.Duration, owner int, keepHeld bool) {
	m.advance(now)
	var gone []*row
	for _, r := range m.rows {
		if r.owner == owner && (r.state == Queued || r.state == Granted && !keepHeld) {
			r.state, r.reason = Ended, Dropped
			gone = append(gone, r)
		}
	}
	for _, r := range gone {
		m.settle(r.id)
	}
}

func (m *model) snapshot(now time.Duration) []KeyInfo {
	m.advance(now)
	var all []KeyInfo
	for id, k := range m.keys {
		holders := m.in(id, Granted)
		i := KeyInfo{
			Kind: id.kind, Key: id.name, Limit: k.limit, Used: m.used(id),
			Holders: len(holders), Waiters: len(m.in(id, Queued)),
		}
		if len(holders) > 0 {
			i.Owner, i.ExpiresIn = uint64(holders[0].owner), holders[0].deadline-m.now
		}
		if k.idle {
			i.Idle = m.now - k.since
		}
		all = append(all, i)
	}
	return all
}
