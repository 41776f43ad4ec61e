package table

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

// A script drives the table and the model with the same calls, which it reads
// from bytes: random ones in TestTableIsTheModel, those of the fuzzer in
// FuzzTable. All numbers in it are small, so that keys are contended, instants
// coincide and caps are reached.
type script struct {
	bytes  []byte
	table  *Table
	model  *model
	owners []*Owner
	leases []*Lease     // the table's, in the order of the model's rows
	given  map[int]bool // those that were given back, by their places there
	now    time.Duration
	unit   time.Duration // of all durations in it
	pace   int           // the less, the more calls there are in the time of a lease

	fence  uint64            // the highest before the latest call
	fences map[uint64]*Lease // all so far
}

const scriptOwners, scriptSessions = 5, 3 // all owners, and how many are sessions

func scriptName(owner int) string { return string(rune('A' + owner)) }

func newScript(bytes []byte) *script {
	s := &script{bytes: bytes, unit: 1}
	if s.below(2) == 1 {
		s.unit = foresight * 2 / 5 // long enough for deadlines to be put right ahead of time
	}
	cfg := Config{
		FirstFence:    uint64(s.below(200)),
		Sign:          sign,
		MaxKeys:       s.below(6),
		MaxWaiters:    s.below(5),
		MaxIdle:       s.time(0, 12),
		PruneInterval: s.time(0, 8),
		MaxValue:      1 + s.below(5),
		MaxValues:     1 + s.below(5)*(ValueOverhead+3),
	}
	s.pace = 3 + s.below(4)
	s.table, s.model = New(cfg), newModel(cfg)
	s.fence, s.fences, s.given = cfg.FirstFence, make(map[uint64]*Lease), make(map[int]bool)
	for i := range scriptOwners {
		o := s.table.NewOwner(uint64(i))
		if i < scriptSessions {
			o = s.table.NewSession(uint64(i))
			s.model.owners[i] = new(modelOwner)
		}
		o.Name = scriptName(i)
		s.owners = append(s.owners, o)
	}
	return s
}

// below reads a number from 0 to n-1; after the last byte all are 0.
func (s *script) below(n int) int {
	if len(s.bytes) == 0 {
		return 0
	}
	b := s.bytes[0]
	s.bytes = s.bytes[1:]
	return int(b) % n
}

// time reads one of n durations from the least on.
func (s *script) time(least, n int) time.Duration {
	return time.Duration(least+s.below(n)) * s.unit
}

// run plays the script to its end, and then ends everything.
func (s *script) run() error {
	for i := 0; len(s.bytes) > 0; i++ {
		call, err := s.step()
		if err == nil {
			err = s.compare()
		}
		if err != nil {
			return fmt.Errorf("call %d, %s at %v: %w", i, call, s.now, err)
		}
	}
	return s.finish()
}

// step makes one call on both sides and compares what they return.
func (s *script) step() (call string, err error) {
	// The clock may stand still and may fall back.
	s.now = max(0, s.now+s.time(-1, s.pace))
	switch s.below(28) {
	case 0, 1, 2, 3, 4, 24, 25, 26, 27:
		return s.acquire()
	case 5:
		return s.onLease("await", func(l *Lease, r *row) error {
			until := time.Duration(s.below(3)) * (s.now + s.time(-1, 5))
			s.table.Await(s.now, l, until)
			s.model.await(s.now, r, until)
			return nil
		})
	case 6:
		return s.onLease("collect", func(l *Lease, r *row) error {
			return same(s.table.Collect(s.now, l), s.model.collect(s.now, r))
		})
	case 7:
		return s.onLease("cancel", func(l *Lease, r *row) error {
			s.table.Cancel(s.now, l)
			s.model.cancel(s.now, r)
			return nil
		})
	case 8:
		return s.byToken("renew", func(id keyID, tok Token) error {
			ttl := s.time(0, 9)
			left, err := s.table.Renew(s.now, id.kind, []byte(id.name), tok, ttl)
			wantLeft, want := s.model.renew(s.now, id, tok.Fence, ttl)
			if left != wantLeft {
				return fmt.Errorf("%v left, want %v", left, wantLeft)
			}
			return same(err, want)
		})
	case 9:
		return s.byToken("release", func(id keyID, tok Token) error {
			return same(s.table.Release(s.now, id.kind, []byte(id.name), tok), s.model.release(s.now, id, tok.Fence))
		})
	case 10:
		o, keep := s.below(scriptOwners), s.below(2) == 1
		s.table.Drop(s.now, s.owners[o], keep)
		s.model.drop(s.now, o, keep)
		return fmt.Sprintf("drop %d, keep %t", o, keep), nil
	case 11, 12, 13, 14, 15, 16:
		return s.valueStep()
	}
	return s.sessionStep()
}

// sessionStep is step for the calls that are about sessions.
func (s *script) sessionStep() (call string, err error) {
	i := s.below(scriptOwners)
	o := s.owners[i]
	switch s.below(10) {
	case 0, 1:
		s.table.Heard(s.now, o)
		s.model.heard(s.now, i)
		return fmt.Sprintf("heard %d", i), nil
	case 2, 3:
		s.table.Beat(s.now, o)
		s.model.beat(s.now, i)
		return fmt.Sprintf("beat %d", i), nil
	case 4:
		s.table.Resume(s.now, o)
		s.model.resume(s.now, i)
		return fmt.Sprintf("resume %d", i), nil
	case 5:
		return s.onLease("name", func(l *Lease, r *row) error {
			s.table.Name(l)
			r.named = true
			return nil
		})
	case 6:
		if got, want := s.table.Sync(s.now, o), s.model.sync(s.now, i); got != want {
			err = fmt.Errorf("%d were dropped, want %d", got, want)
		}
		return fmt.Sprintf("sync %d", i), err
	case 7:
		id := keyID{Kind(s.below(2)), string(rune('a' + s.below(4)))}
		if got, want := s.table.Force(s.now, id.kind, []byte(id.name)), s.model.force(s.now, id); got != want {
			err = fmt.Errorf("%d were revoked, want %d", got, want)
		}
		return fmt.Sprintf("force %v", id), err
	}
	s.table.Advance(s.now)
	s.model.advance(s.now)
	return "advance", nil
}

func (s *script) acquire() (call string, err error) {
	o := s.below(scriptOwners)
	q := Request{
		Kind: Kind(s.below(2)), Key: []byte{'a' + byte(s.below(4))}, Owner: s.owners[o],
		TTL: s.time(0, 9), Limit: 1 + s.below(8)/2, Weight: s.below(3), Try: s.below(4) == 0,
		Fences: s.below(4), Ticket: s.below(3) == 0, Joins: s.below(2) == 0,
	}
	if q.Kind == Lock && s.below(4) > 0 {
		q.Key[0], q.Weight = 'a'+q.Key[0]%2, 1 // what comes to something, on one of two keys
	}
	if s.below(3) == 0 {
		q.WaitUntil = s.now + s.time(-1, 6)
	}
	l, err := s.table.Acquire(s.now, q)
	r, want := s.model.acquire(s.now, o, q)
	if l != nil {
		s.leases = append(s.leases, l)
	}
	if (l == nil) != (r == nil) {
		err = fmt.Errorf("lease %v, want %v", l, r)
	}
	return fmt.Sprintf("acquire %+v", q), same(err, want)
}

func (s *script) onLease(call string, f func(*Lease, *row) error) (string, error) {
	if len(s.leases) == 0 {
		return call, nil
	}
	i := s.recent()
	return fmt.Sprintf("%s %d", call, i), f(s.leases[i], s.model.rows[i])
}

// byToken calls f with the key and the token of a lease, which may have ended,
// and at times with another key or with a token that is none.
func (s *script) byToken(call string, f func(keyID, Token) error) (string, error) {
	if len(s.leases) == 0 {
		return call, nil
	}
	i := s.recent()
	id, tok := s.model.rows[i].id, s.leases[i].Token()
	switch s.below(16) {
	case 0:
		id.kind = 1 - id.kind
	case 1:
		id.name = "elsewhere"
	case 2:
		tok.MAC++
		_, err := s.table.Renew(s.now, id.kind, []byte(id.name), tok, 1)
		s.model.advance(s.now)
		return call + " with a wrong MAC", same(err, ErrNotHeld)
	}
	return fmt.Sprintf("%s %d %v", call, i, id), f(id, tok)
}

// recent picks a lease, mostly one of the latest.
func (s *script) recent() int { return max(0, len(s.leases)-1-s.below(12)) }

// same compares an error with the one wanted.
func same(got, want error) error {
	if !errors.Is(got, want) || !errors.Is(want, got) {
		return fmt.Errorf("error %w, want %w", got, want)
	}
	return nil
}

// compare wants the table to be what the model is, and to be sound.
func (s *script) compare() error {
	if err := s.compareEvents(); err != nil {
		return err
	}
	for i, r := range s.model.rows {
		if err := s.compareLease(s.leases[i], r); err != nil {
			return fmt.Errorf("lease %d: %w", i, err)
		}
		if err := s.compareFence(s.leases[i]); err != nil {
			return fmt.Errorf("lease %d: %w", i, err)
		}
	}
	s.fence = s.table.Fence()
	s.giveBack()
	m, t := s.model, s.table
	if t.Held() != m.count(Granted) || t.Waiting() != m.count(Queued) || t.Keys() != len(m.keys) || t.Fence() != m.fence {
		return fmt.Errorf("held %d, waiting %d, keys %d, fence %d; want %d, %d, %d, %d",
			t.Held(), t.Waiting(), t.Keys(), t.Fence(), m.count(Granted), m.count(Queued), len(m.keys), m.fence)
	}
	at, ok := t.Next()
	if wantAt, want := m.next(); ok != want || at > wantAt {
		return fmt.Errorf("next %v %t, want %v %t or earlier", at, ok, wantAt, want)
	}
	got, want := t.Snapshot(s.now), m.snapshot(s.now)
	byName := func(a, b KeyInfo) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Key, b.Key)) }
	slices.SortFunc(got, byName)
	slices.SortFunc(want, byName)
	if !slices.EqualFunc(got, want, func(a, b KeyInfo) bool { return reflect.DeepEqual(a, b) }) {
		return fmt.Errorf("snapshot %+v, want %+v", got, want)
	}
	if err := s.compareValues(); err != nil {
		return err
	}
	return audit(t, s.owners...)
}

// giveBack lets every other lease that has ended come again, and keeps a copy to
// compare. Those that a put answered still carry its value.
func (s *script) giveBack() {
	for i, l := range s.leases {
		if i%2 == 0 && !s.given[i] && l.State() == Ended && l.Reason() != Answered {
			was := *l
			s.leases[i], s.given[i] = &was, true
			if f := was.Token().Fence; f != 0 {
				s.fences[f] = &was
			}
			s.table.Reuse(l)
		}
	}
}

func (s *script) compareEvents() error {
	got, want := s.table.Events(), s.model.events
	s.model.events = nil
	if len(got) != len(want) {
		return fmt.Errorf("%d events, want %d", len(got), len(want))
	}
	for i, e := range got {
		if r := want[i].row; e.Lease != s.leases[slices.Index(s.model.rows, r)] || e.Kind != want[i].kind {
			return fmt.Errorf("event %d is %d for %q, want %d for %q", i, e.Kind, e.Lease.Key(), want[i].kind, r.id.name)
		}
	}
	return nil
}

func (s *script) compareLease(l *Lease, r *row) error {
	var tok Token
	if r.fence != 0 {
		tok = Token{r.fence, sign(0, "", r.fence, 0, 0)}
	}
	var left time.Duration
	if r.state == Granted {
		left = r.due() - s.model.now
	}
	switch {
	case l.State() != r.state || l.Reason() != r.reason:
		return fmt.Errorf("state %d, reason %d; want %d, %d", l.State(), l.Reason(), r.state, r.reason)
	case l.Token() != tok:
		return fmt.Errorf("token %d, want %d", l.Token(), tok)
	case l.Remaining(s.model.now) != left:
		return fmt.Errorf("%v left, want %v", l.Remaining(s.model.now), left)
	case l.Key() != r.id.name || l.Kind() != r.id.kind || l.TTL() != r.ttl || l.Weight() != r.weight || l.Owner().ID() != uint64(r.owner):
		return fmt.Errorf("it is %q of kind %d, TTL %v, weight %d, owner %d; want %+v", l.Key(), l.Kind(), l.TTL(), l.Weight(), l.Owner().ID(), r)
	}
	return sameValue(l.Published(), r.value)
}

// compareFence wants a fence to be new when it is first seen, and to stay.
func (s *script) compareFence(l *Lease) error {
	f := l.Token().Fence
	if f == 0 || s.fences[f] == l {
		return nil
	}
	if s.fences[f] != nil || f <= s.fence {
		return fmt.Errorf("fence %d, after %d was given", f, s.fence)
	}
	s.fences[f] = l
	return nil
}

// finish drops all owners and lets all idle keys go: nothing may be left.
func (s *script) finish() error {
	for _, o := range s.owners {
		s.table.Drop(s.now, o, false)
	}
	for key, p := range s.model.pending {
		for range len(p) {
			s.settlePending(key, false)
		}
	}
	for at, ok := s.table.Next(); ok; at, ok = s.table.Next() {
		keys := s.table.Keys() + len(s.table.values.byKey)
		s.table.Advance(max(at, s.now))
		if s.table.Keys()+len(s.table.values.byKey) >= keys {
			return fmt.Errorf("at the end: Advance(%v) was announced and did nothing", at)
		}
	}
	if n := s.table.Held() + s.table.Waiting() + s.table.Keys() + len(s.table.deadlines.heap); n != 0 {
		return fmt.Errorf("at the end: %d held, %d waiting, %d keys, %d deadlines",
			s.table.Held(), s.table.Waiting(), s.table.Keys(), len(s.table.deadlines.heap))
	}
	return audit(s.table, s.owners...)
}

// TestTableIsTheModel plays random scripts, each from its own seed.
func TestTableIsTheModel(t *testing.T) {
	t.Parallel()
	const seeds, length = 3000, 800
	answered := 0
	for seed := range uint64(seeds) {
		random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test repeats itself
		bytes := make([]byte, length)
		for i := range bytes {
			bytes[i] = byte(random.Uint32())
		}
		s := newScript(bytes)
		if err := s.run(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		answered += s.model.answered
	}
	if answered < 300 {
		t.Errorf("%d waits were answered by puts: that does not show much", answered)
	}
}

// FuzzTable lets the fuzzer write the script.
func FuzzTable(f *testing.F) {
	for seed := range byte(16) {
		bytes := make([]byte, 64)
		for i := range bytes {
			bytes[i] = byte(i)*(2*seed+1) + seed
		}
		f.Add(bytes)
	}
	f.Fuzz(func(t *testing.T, bytes []byte) {
		// The model's work grows with the square of the length.
		if err := newScript(bytes[:min(len(bytes), 2000)]).run(); err != nil {
			t.Fatal(err)
		}
	})
}
