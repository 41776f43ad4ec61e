package datadir

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// KeySize is the length of the key of the tokens' MACs.
	KeySize = 32
	// MaxKey caps the key of a record, as the protocol caps keys.
	MaxKey = 256
	// MaxRecords caps the records of a clean stop.
	MaxRecords = 1 << 20
	// MaxLong caps the records of leases longer than Options.MaxGrace: each
	// change of one writes them all.
	MaxLong = 1 << 14
)

// A State is what is on disk.
type State struct {
	// Boot counts the starts, this one included.
	Boot uint64
	// Wall is the latest wall clock that the server saw when it wrote, in
	// nanoseconds since 1970, or 0 if that was before.
	Wall int64
	// Key is the secret of the tokens' MACs. It never changes.
	Key [KeySize]byte
	// Ceiling is the highest fence that may have been given.
	Ceiling uint64
	// Mark is the longest TTL of a lease without a record that may be out.
	Mark time.Duration
	// Clean says that the server stopped with Records being all leases.
	Clean bool
	// ValuesTx is the number of a transaction of values.db that was on disk
	// when this was written, seldom the last one. 0 is before there was a
	// values.db.
	ValuesTx uint64
	// Records are the leases that have one, in the order of Record.Compare:
	// after a clean stop all of them, else those longer than Options.MaxGrace.
	Records []Record
}

// A Record is a lease. A lease has one record, named by kind, key and fence.
type Record struct {
	Kind   uint8  // the number of the name space: 0 for locks, 1 for semaphores
	Key    string // 1 to MaxKey bytes
	Fence  uint64
	Limit  int           // at least 1
	Weight int           // 1 to Limit
	TTL    time.Duration // above 0
}

// Compare orders records by kind, key and fence.
func (r Record) Compare(o Record) int {
	return cmp.Or(cmp.Compare(r.Kind, o.Kind), strings.Compare(r.Key, o.Key), cmp.Compare(r.Fence, o.Fence))
}

// check says what is wrong with a record, if anything. It is called before one is
// written and when one is read, so that nothing is written that would be refused.
func (r Record) check() error {
	switch {
	case r.Key == "" || len(r.Key) > MaxKey:
		return fmt.Errorf("the key of a record has %d bytes, it must have 1 to %d", len(r.Key), MaxKey)
	case r.Weight < 1 || r.Weight > r.Limit:
		return fmt.Errorf("a record has weight %d under limit %d, it must have 1 to the limit", r.Weight, r.Limit)
	case r.TTL <= 0:
		return fmt.Errorf("a record has a TTL of %v, it must be above 0", r.TTL)
	}
	return nil
}

// check says what is wrong with a state, if anything.
func (s *State) check() error {
	switch {
	case s.Mark < 0:
		return fmt.Errorf("the mark is %v and must not be negative", s.Mark)
	case s.Wall < 0:
		return fmt.Errorf("the wall clock is %d and must not be negative", s.Wall)
	case len(s.Records) > MaxRecords:
		return fmt.Errorf("%w: %d, at most %d", ErrFull, len(s.Records), MaxRecords)
	}
	for i, r := range s.Records {
		if err := r.check(); err != nil {
			return err
		}
		if i > 0 && s.Records[i-1].Compare(r) >= 0 {
			return fmt.Errorf("record %d is out of order", i)
		}
	}
	return nil
}

// equal says whether two states are the same.
func (s *State) equal(o *State) bool {
	return s.Boot == o.Boot && s.Wall == o.Wall && bytes.Equal(s.Key[:], o.Key[:]) && s.Ceiling == o.Ceiling &&
		s.Mark == o.Mark && s.Clean == o.Clean && s.ValuesTx == o.ValuesTx && slices.Equal(s.Records, o.Records)
}
