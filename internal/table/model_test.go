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
	owners    map[int]*modelOwner
	idled     int // counts keys becoming idle
	nextPrune time.Duration
	events    []modelEvent
	values    map[string]*modelValue
	pending   map[string][]*modelValue // nil is a removal
	answered  int                      // counts those whom a put answered
}

// A modelOwner is a session; other owners are not in the map.
type modelOwner struct{ heard, beat time.Duration }

type keyID struct {
	kind Kind
	name string
}

type modelKey struct {
	limit int
	idle  bool
	since time.Duration // it is idle

	turn int // the how-manieth key to become idle
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
	fences   int
	deadline time.Duration // 0 is never
	granted  time.Duration

	session *modelOwner // nil for other owners
	ticket  bool
	beaten  bool
	named   bool
	absent  bool
	joins   bool
	value   *modelValue // if it was answered
}

// due is when something happens to the row by itself; 0 is never.
func (r *row) due() time.Duration {
	s := r.session
	switch {
	case s == nil:
		return r.deadline
	case r.state == Granted && r.beaten:
		return max(r.deadline, s.beat+r.ttl)
	case r.state == Granted:
		return r.deadline
	}
	silent := s.heard + min((r.ttl+1)/2, 5*time.Second)
	if r.absent {
		silent = s.heard + r.ttl
	}
	if r.deadline == 0 {
		return silent
	}
	return min(silent, r.deadline)
}

type modelEvent struct {
	row  *row
	kind EventKind
}

func newModel(cfg Config) *model {
	return &model{
		cfg: cfg, keys: make(map[keyID]*modelKey), owners: make(map[int]*modelOwner), fence: cfg.FirstFence,
		values: make(map[string]*modelValue), pending: make(map[string][]*modelValue),
	}
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
		if r.state == Ended || r.due() == 0 {
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
	case a.due() != b.due():
		return a.due() < b.due()
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
	for r := m.nextDue(); r != nil && r.due() <= m.now; r = m.nextDue() {
		switch {
		case r.state == Granted:
			m.fall(r, EventExpired, Expired)
		case r.due() == r.deadline:
			m.fall(r, EventTimedOut, TimedOut)
		case r.absent:
			m.fall(r, EventAbandoned, Abandoned)
		default:
			r.absent = true
			m.settle(r.id)
		}
	}
	pruned := false
	for id, k := m.longestIdle(); k != nil && m.now >= m.nextPrune && k.since+m.cfg.MaxIdle <= m.now; id, k = m.longestIdle() {
		delete(m.keys, id)
		pruned = true
	}
	if pruned {
		m.nextPrune = m.now + m.cfg.PruneInterval
	}
	m.expireValues()
}

func (m *model) next() (time.Duration, bool) {
	var at time.Duration
	_, k := m.longestIdle()
	if k != nil {
		at = max(m.nextPrune, k.since+m.cfg.MaxIdle)
	}
	ok := k != nil
	if r := m.nextDue(); r != nil && (!ok || r.due() < at) {
		at, ok = r.due(), true
	}
	if goes, any := m.nextValue(); any && (!ok || goes < at) {
		at, ok = goes, true
	}
	return at, ok
}

func (m *model) fall(r *row, kind EventKind, why Reason) {
	m.events = append(m.events, modelEvent{r, kind})
	m.end(r, why)
}

func (m *model) end(r *row, why Reason) {
	r.state, r.reason, r.absent = Ended, why, false
	m.settle(r.id)
}

func (m *model) settle(id keyID) {
	k := m.keys[id]
	for _, r := range m.in(id, Queued) {
		if r.absent {
			continue
		}
		if m.used(id)+r.weight > k.limit || m.keepsAway(id) {
			break
		}
		m.grant(r)
		m.events = append(m.events, modelEvent{r, EventGranted})
	}
	if len(m.in(id, Granted)) == 0 && len(m.in(id, Queued)) == 0 && !k.idle && !m.keepsAway(id) {
		m.idled++
		k.idle, k.since, k.turn = true, m.now, m.idled
	}
}

// keepsAway says whether nobody may be granted the key for the sake of a change
// that is pending.
func (m *model) keepsAway(id keyID) bool { return id.kind == Lock && len(m.pending[id.name]) > 0 }

func (m *model) grant(r *row) {
	r.state, r.fence, r.deadline = Granted, m.fence+1, m.now+r.ttl
	m.fence += uint64(max(r.fences, 1))
	r.granted = m.now
	r.beaten = r.session != nil && !r.ticket
	m.keys[r.id].idle = false
}

func (m *model) acquire(now time.Duration, owner int, q Request) (*row, error) {
	m.heard(now, owner)
	id := keyID{q.Kind, string(q.Key)}
	limit := 1
	if q.Kind == Semaphore {
		limit = q.Limit
	}
	if q.Weight < 1 || q.Weight > limit {
		return nil, ErrWeight
	}
	if q.Fences < 0 || q.Fences > MaxFences {
		return nil, ErrFences
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
	r := &row{
		id: id, owner: owner, ttl: q.TTL, weight: q.Weight, arrival: len(m.rows), deadline: q.WaitUntil, fences: q.Fences,
		session: m.owners[owner], ticket: q.Ticket, named: true, joins: q.Joins,
	}
	if !slices.ContainsFunc(queue, func(r *row) bool { return !r.absent }) && m.used(id)+q.Weight <= limit && !m.keepsAway(id) {
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
		m.known(r)
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
	r.ttl = ttl
	m.known(r)
	return ttl, nil
}

func (m *model) known(r *row) {
	r.deadline = m.now + r.ttl
	r.ticket, r.named, r.beaten = false, true, r.session != nil
}

func (m *model) heard(now time.Duration, owner int) {
	m.advance(now)
	s := m.owners[owner]
	if s == nil {
		return
	}
	s.heard = m.now
	for _, r := range m.rows {
		if r.session == s {
			r.absent = false
		}
	}
	for _, r := range m.rows {
		if r.session == s && r.state == Queued {
			m.settle(r.id)
		}
	}
}

func (m *model) beat(now time.Duration, owner int) {
	m.heard(now, owner)
	if s := m.owners[owner]; s != nil {
		s.beat = m.now
	}
}

func (m *model) resume(now time.Duration, owner int) {
	m.heard(now, owner)
	for _, r := range m.rows {
		if r.owner == owner {
			if r.state == Granted {
				r.deadline = r.due()
			}
			r.beaten, r.named = false, false
		}
	}
}

func (m *model) sync(now time.Duration, owner int) int {
	m.heard(now, owner)
	return m.dropIf(func(r *row) bool { return r.owner == owner && !r.named })
}

func (m *model) force(now time.Duration, id keyID) int {
	m.advance(now)
	holders := m.in(id, Granted)
	for _, r := range holders {
		m.events = append(m.events, modelEvent{r, EventRevoked})
		r.state, r.reason = Ended, Revoked
	}
	if len(holders) > 0 {
		m.settle(id)
	}
	return len(holders)
}

func (m *model) release(now time.Duration, id keyID, fence uint64) error {
	m.advance(now)
	r := m.find(id, fence)
	if r == nil {
		return ErrNotHeld
	}
	if r.session != nil {
		m.events = append(m.events, modelEvent{r, EventReleased})
	}
	m.end(r, Released)
	return nil
}

func (m *model) drop(now time.Duration, owner int, keepHeld bool) {
	m.advance(now)
	m.dropIf(func(r *row) bool { return r.owner == owner && (r.state == Queued || !keepHeld) })
}

func (m *model) dropIf(goes func(*row) bool) int {
	var gone []*row
	for _, r := range m.rows {
		if r.state != Ended && goes(r) {
			r.state, r.reason, r.absent = Ended, Dropped, false
			gone = append(gone, r)
		}
	}
	for _, r := range gone {
		m.settle(r.id)
	}
	return len(gone)
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
			i.Owner, i.ExpiresIn = uint64(holders[0].owner), holders[0].due()-m.now
			i.Name, i.HeldFor = scriptName(holders[0].owner), m.since(holders[0])
			i.Shares = m.shares(holders)
		}
		for _, r := range m.in(id, Queued) {
			if r.absent {
				i.Absent++
			}
		}
		if k.idle {
			i.Idle = m.now - k.since
		}
		all = append(all, i)
	}
	return m.withValues(all)
}

// since returns the time since the grant, both instants in whole milliseconds.
func (m *model) since(r *row) time.Duration {
	return m.now.Truncate(time.Millisecond) - r.granted.Truncate(time.Millisecond)
}

func (m *model) shares(holders []*row) (all []Share) {
	if holders[0].id.kind == Lock {
		return nil
	}
	for _, r := range holders[:min(len(holders), MaxShares)] {
		all = append(all, Share{scriptName(r.owner), r.weight, m.since(r)})
	}
	return all
}
