package datadir

import (
	"fmt"
	"time"
)

// Options say how a Dir behaves. The zero Options are ready to use.
type Options struct {
	// MaxGrace is the longest TTL that the mark is for; leases with longer
	// ones must have records. 0 is a minute.
	MaxGrace time.Duration
	// Span is how many fences are reserved with each update. 0 is 1<<20. As
	// long as fewer than half of them are given during an update, no grant
	// waits for one.
	Span uint64
	// MustExist refuses a directory that was never used: for volumes that may
	// not be mounted, where an empty directory is not a first use.
	MustExist bool
	// Changed, unless nil, is called after each update, and once when there
	// can be no more because one failed. It is called on the writer's
	// goroutine without a mutex; no update begins before it returns. It must
	// not call Stop or Close.
	Changed func()
	// ValuesChanged, unless nil, is called after each transaction of values,
	// and once when there can be no more because one failed, as Changed is
	// but on a goroutine of its own.
	ValuesChanged func()
	// Wall is the wall clock. Nil is time.Now.
	Wall func() time.Time
	// FS is the file system. Nil is OS. If it is no ValuesFS no values are
	// kept.
	FS FS

	faults faults
}

func (o Options) withDefaults() (Options, error) {
	switch {
	case o.MaxGrace < 0:
		return o, fmt.Errorf("datadir: Options.MaxGrace is %v and must not be negative; 0 is a minute", o.MaxGrace)
	case o.MaxGrace == 0:
		o.MaxGrace = time.Minute
	}
	if o.Span == 0 {
		o.Span = 1 << 20
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	if o.ValuesChanged == nil {
		o.ValuesChanged = func() {}
	}
	if o.Wall == nil {
		o.Wall = time.Now
	}
	if o.FS == nil {
		o.FS = OS{}
	}
	return o, nil
}

func (o *Options) wall() int64 { return max(o.Wall().UnixNano(), 0) }

func (o *Options) limits() limits {
	return limits{maxGrace: o.MaxGrace, span: o.Span, faults: o.faults}
}

// Found is what a start finds.
type Found struct {
	// State is what the last server left, with its Boot. When Boot is 0 no
	// server ever started on the directory.
	State
	// Fence is behind all that were ever given: the first of this start must
	// be above it.
	Fence uint64
	// Grace is for how long after Open returned a lease without a record may
	// still be out: the mark, and 0 after a clean stop. It may be longer than
	// Options.MaxGrace if the last server's was.
	Grace time.Duration
	// SetBack is by how much the wall clock is behind what the last server
	// saw. It does no harm here, but somebody may want to know.
	SetBack time.Duration
	// Repaired says which files were damaged and have been written again from
	// what the others say: a power cut can do that to one slot, anything more
	// comes of a bad disk.
	Repaired []string
	// Values are the values that are on disk, in the order of their keys, but
	// for those that expired: by the wall clock, even if it was set. Their
	// fences are not above Fence.
	Values []StoredValue
}
