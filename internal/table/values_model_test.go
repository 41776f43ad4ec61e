package table

import (
	"bytes"
	"fmt"
	"time"
)

// The values of the model: one map of what counts, one of what is pending, and
// every sum made anew for each question.

type modelValue struct {
	data  string
	fence uint64
	at    time.Duration
	until time.Duration // 0 is never
}

func (m *model) publish(now time.Duration, key string, fence uint64, data string, ttl time.Duration, pending bool) (uint64, error) {
	m.advance(now)
	if m.find(keyID{Lock, key}, fence) == nil {
		return 0, ErrNotHeld
	}
	if ttl < 0 {
		return 0, ErrTTL
	}
	if len(data) > m.cfg.MaxValue {
		return 0, ErrValueTooLarge
	}
	if m.valueBytes()-m.bytesOf(key, m.latest(key))+len(key)+len(data)+ValueOverhead > m.cfg.MaxValues {
		return 0, ErrValuesFull
	}
	m.fence++
	v := &modelValue{data: data, fence: m.fence, at: m.now}
	if ttl > 0 {
		v.until = m.now + ttl
	}
	if pending {
		m.pending[key] = append(m.pending[key], v)
	} else {
		m.change(key, v)
	}
	return v.fence, nil
}

func (m *model) unpublish(now time.Duration, key string, fence uint64, pending bool) (bool, error) {
	m.advance(now)
	if m.find(keyID{Lock, key}, fence) == nil {
		return false, ErrNotHeld
	}
	if m.latest(key) == nil {
		return false, nil
	}
	if pending {
		m.pending[key] = append(m.pending[key], nil)
	} else {
		m.change(key, nil)
	}
	return true, nil
}

func (m *model) settlePending(now time.Duration, key string, ok bool) {
	m.advance(now)
	p := m.pending[key]
	if len(p) == 0 {
		return
	}
	if m.pending[key] = p[1:]; ok {
		m.change(key, p[0])
	}
	m.advance(now)
	m.settle(keyID{Lock, key})
}

// change makes a change count; nil is a removal.
func (m *model) change(key string, v *modelValue) {
	if v == nil {
		delete(m.values, key)
		return
	}
	m.values[key] = v
	for _, r := range m.in(keyID{Lock, key}, Queued) {
		if r.joins {
			m.answered++
			m.events = append(m.events, modelEvent{r, EventValue})
			r.state, r.reason, r.absent, r.value = Ended, Answered, false, v
		}
	}
}

func (m *model) latest(key string) *modelValue {
	if p := m.pending[key]; len(p) > 0 {
		return p[len(p)-1]
	}
	return m.values[key]
}

func (m *model) bytesOf(key string, v *modelValue) int {
	if v == nil {
		return 0
	}
	return len(key) + len(v.data) + ValueOverhead
}

func (m *model) valueBytes() int {
	n := 0
	for key, v := range m.values {
		n += m.bytesOf(key, v)
	}
	for key, p := range m.pending {
		for _, v := range p {
			n += m.bytesOf(key, v)
		}
	}
	return n
}

func (m *model) expireValues() {
	for key, v := range m.values {
		if v.until != 0 && v.until <= m.now {
			delete(m.values, key)
		}
	}
}

func (m *model) nextValue() (at time.Duration, ok bool) {
	for _, v := range m.values {
		if v.until != 0 && (!ok || v.until < at) {
			at, ok = v.until, true
		}
	}
	return at, ok
}

// withValues adds what a snapshot says of values to one without.
func (m *model) withValues(all []KeyInfo) []KeyInfo {
	for key, v := range m.values {
		at := -1
		for i, k := range all {
			if k.Kind == Lock && k.Key == key {
				at = i
			}
		}
		if at < 0 {
			at = len(all)
			all = append(all, KeyInfo{Kind: Lock, Key: key, Limit: 1})
		}
		all[at].Valued, all[at].ValueBytes, all[at].ValueAge = true, len(v.data), m.now-v.at
	}
	return all
}

// valueStep is step for the calls that are about values.
func (s *script) valueStep() (call string, err error) {
	switch s.below(6) {
	case 0, 1, 2:
		data := []byte("value")[:s.below(6)]
		ttl, pending := s.time(-1, 8), s.below(2) == 1
		return s.byHolder("publish", func(id keyID, tok Token) error {
			got, err := s.table.Publish(s.now, []byte(id.name), inKind(id, tok), data, ttl, pending)
			want, wantErr := s.model.publish(s.now, id.name, inKind(id, tok).Fence, string(data), ttl, pending)
			if got != want {
				return fmt.Errorf("fence %d, want %d", got, want)
			}
			return same(err, wantErr)
		})
	case 3:
		pending := s.below(2) == 1
		return s.byHolder("unpublish", func(id keyID, tok Token) error {
			got, err := s.table.Unpublish(s.now, []byte(id.name), inKind(id, tok), pending)
			want, wantErr := s.model.unpublish(s.now, id.name, inKind(id, tok).Fence, pending)
			if got != want {
				return fmt.Errorf("there was one: %t, want %t", got, want)
			}
			return same(err, wantErr)
		})
	}
	key, ok := string(rune('a'+s.below(4))), s.below(4) > 0
	s.settlePending(key, ok)
	return fmt.Sprintf("settle %s %t", key, ok), nil
}

// byHolder is byToken, mostly with a lock that is held, those that somebody waits
// for first: any other token is refused, which is soon tried.
func (s *script) byHolder(call string, f func(keyID, Token) error) (string, error) {
	if s.below(4) == 0 {
		return s.byToken(call, f)
	}
	best := -1
	for i, r := range s.model.rows {
		if r.state != Granted || r.id.kind != Lock {
			continue
		}
		if best < 0 || len(s.model.in(r.id, Queued)) > len(s.model.in(s.model.rows[best].id, Queued)) {
			best = i
		}
	}
	if best < 0 {
		return call, nil
	}
	id := s.model.rows[best].id
	return fmt.Sprintf("%s %d %v", call, best, id), f(id, s.leases[best].Token())
}

// inKind returns a token that is wrong if the key is not of a lock: a semaphore's
// token of the same fence would be right for the lock in these scripts, whose
// signature is the same for all.
func inKind(id keyID, tok Token) Token {
	if id.kind != Lock {
		return Token{}
	}
	return tok
}

func (s *script) settlePending(key string, ok bool) {
	s.table.Settle(s.now, []byte(key), ok)
	s.model.settlePending(s.now, key, ok)
}

// compareValues wants the table's values to be the model's, and the sums right.
func (s *script) compareValues() error {
	for _, key := range []string{"a", "b", "c", "d", "elsewhere"} {
		got, pending := s.table.LookupValue(s.now, []byte(key))
		if err := sameValue(got, s.model.values[key]); err != nil {
			return fmt.Errorf("key %s: %w", key, err)
		}
		if want := len(s.model.pending[key]) > 0; pending != want {
			return fmt.Errorf("key %s: pending is %t, want %t", key, pending, want)
		}
	}
	if n, size := s.table.Values(); n != len(s.model.values) || size != s.model.valueBytes() {
		return fmt.Errorf("%d values count for %d, want %d for %d", n, size, len(s.model.values), s.model.valueBytes())
	}
	return nil
}

func sameValue(got *Value, want *modelValue) error {
	switch {
	case got == nil && want == nil:
		return nil
	case got == nil || want == nil:
		return fmt.Errorf("value %+v, want %+v", got, want)
	case !bytes.Equal(got.Data, []byte(want.data)), got.Fence != want.fence, got.At != want.at, got.Until != want.until:
		return fmt.Errorf("value %+v, want %+v", got, want)
	}
	return nil
}

// auditValues checks the values against themselves.
func auditValues(t *Table) error {
	v := &t.values
	size, expiring := 0, 0
	for key, s := range v.byKey {
		size += s.size()
		if s.Until != 0 {
			expiring++
		}
		switch {
		case s.key != key:
			return fmt.Errorf("value of %q is filed as of %q", s.key, key)
		case s.Fence > t.fence:
			return fmt.Errorf("value of %q has fence %d, and %d is the last", key, s.Fence, t.fence)
		case (s.Until != 0) != (s.slot != 0):
			return fmt.Errorf("value of %q goes at %v, slot %d", key, s.Until, s.slot)
		case s.Until != 0 && s.Until <= t.now:
			return fmt.Errorf("value of %q was to go at %v, and it is %v", key, s.Until, t.now)
		}
	}
	for key, p := range v.pending {
		if e := t.keys[Lock].get([]byte(key)); len(p) == 0 || e == nil || !e.pending {
			return fmt.Errorf("%d changes of %q are pending", len(p), key)
		}
		for _, s := range p {
			size += s.size()
		}
	}
	for i, s := range v.expires.all {
		if v.byKey[s.key] != s || s.slot != i+1 || i > 0 && s.Until < v.expires.all[(i-1)/2].Until {
			return fmt.Errorf("value of %q in the heap at %d, slot %d", s.key, i, s.slot)
		}
	}
	if size != v.size || expiring != len(v.expires.all) {
		return fmt.Errorf("values of %d B, %d of them in the heap; counted %d B and %d", size, len(v.expires.all), v.size, expiring)
	}
	return nil
}
