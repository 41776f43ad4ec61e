package guard

import (
	"bytes"
	"context"
	"strconv"
	"sync"
)

// A Memory is a Store in this process. The zero value is empty and ready; it is
// safe for concurrent use and must not be copied. It never forgets a key, since
// forgetting one would let a late holder in, and forgets everything with the
// process: it guards what lives as long as itself.
type Memory struct {
	mu      sync.Mutex
	records map[string]Record // guarded by mu; the values are never changed
	writes  uint64            // guarded by mu; the version of the last write
}

var _ Store = (*Memory)(nil)

// Load returns the record under key, or the zero Record. It never fails. The
// value must not be changed.
func (m *Memory) Load(_ context.Context, key string) (Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.records[key], nil
}

// CompareAndSwap replaces the record under key by a copy of next if its version
// is old. It never fails.
func (m *Memory) CompareAndSwap(_ context.Context, key, old string, next Record) (bool, error) {
	next.Value = bytes.Clone(next.Value)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.records[key].Version != old {
		return false, nil
	}
	if m.records == nil {
		m.records = make(map[string]Record)
	}
	m.writes++
	next.Version = strconv.FormatUint(m.writes, 10)
	m.records[key] = next
	return true, nil
}
