package codec

import (
	"bytes"
	"errors"
	"io"
)

// The caps on what is read, in bytes and without the line feed.
const (
	// MaxLine caps each line of a request, keys included.
	MaxLine = 256
	// MaxSecret caps the third line of a request to authenticate.
	MaxSecret = 64 << 10
	// MaxAnswer caps an answer that is not a report of statistics.
	MaxAnswer = 512
	// MaxStats caps the answer to a request for statistics.
	MaxStats = 64 << 20
)

// ErrTooLong says that a line is longer than its cap. The rest of it was not
// read, so the connection cannot be used any further.
var ErrTooLong = errors.New("codec: line too long")

const (
	// firstBuffer is what a connection costs that never has more than a few
	// requests in flight: there may be many that are idle.
	firstBuffer = 1 << 10
	// waveBuffer is what the buffer grows to for those who fill it, so that a
	// wave of pipelined requests takes one read. Larger ones brought nothing
	// in measurements.
	waveBuffer = 16 << 10
	// keepBuffer is the largest buffer that is kept once it is empty, so that
	// one long line does not cost its memory for the life of a connection.
	keepBuffer = 32 << 10
	// maxEmptyReads is how often a Read may return nothing at all, as in
	// package bufio.
	maxEmptyReads = 100
)

// A lineBuffer finds lines in what it reads, and keeps them in place until the
// caller has found all that it needs. It is not a bufio.Reader because three
// lines must stay valid at once, and because a read that failed with a timeout
// must lose nothing.
type lineBuffer struct {
	r   io.Reader
	buf []byte // buf[start:end] was read and is not yet consumed
	err error  // came with the last bytes, and is still to be returned

	start, end int
	filled     bool // the last read left no room
}

// line finds the line that begins off bytes after what was consumed, reading
// as needed. It returns where the line ends, without its LF and a CR before
// that, and where the next one begins; both count from the same place as off.
func (b *lineBuffer) line(off, limit int) (end, next int, err error) {
	for scanned := off; ; {
		if i := bytes.IndexByte(b.buf[b.start+scanned:b.end], '\n'); i >= 0 {
			end = scanned + i
			if end-off > limit {
				return 0, 0, ErrTooLong
			}
			next = end + 1
			if end > off && b.buf[b.start+end-1] == '\r' {
				end--
			}
			return end, next, nil
		}
		scanned = b.buffered()
		if scanned-off > limit {
			return 0, 0, ErrTooLong
		}
		if err := b.fill(); err != nil {
			return 0, 0, err
		}
	}
}

// slice returns bytes by their distance from what was consumed. They are valid
// until the next call of fill.
func (b *lineBuffer) slice(from, to int) []byte { return b.buf[b.start+from : b.start+to] }

func (b *lineBuffer) buffered() int { return b.end - b.start }

// ready says whether the end of a line was read.
func (b *lineBuffer) ready() bool { return bytes.IndexByte(b.buf[b.start:b.end], '\n') >= 0 }

func (b *lineBuffer) consume(n int) { b.start += n }

// fill reads once, at least one byte unless it fails.
func (b *lineBuffer) fill() error {
	if err := b.err; err != nil {
		b.err = nil
		return err
	}
	b.makeRoom()
	for range maxEmptyReads {
		n, err := b.r.Read(b.buf[b.end:])
		b.end += n
		b.filled = b.end == len(b.buf)
		if n > 0 {
			b.err = err
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

func (b *lineBuffer) makeRoom() {
	if b.start == b.end {
		b.start, b.end = 0, 0
		switch size := len(b.buf); {
		case size == 0 || size > keepBuffer:
			b.buf = make([]byte, firstBuffer)
		case b.filled && size < waveBuffer:
			b.buf = make([]byte, 2*size)
		}
	}
	if b.end < len(b.buf) {
		return
	}
	switch size := len(b.buf); {
	case b.start == 0:
		b.buf = append(b.buf, make([]byte, size)...)
	case b.filled && size < waveBuffer: // a wave ends in the middle of a request, as a rule
		larger := make([]byte, 2*size)
		copy(larger, b.buf[b.start:b.end])
		b.buf = larger
	default:
		copy(b.buf, b.buf[b.start:b.end])
	}
	b.end -= b.start
	b.start = 0
}
