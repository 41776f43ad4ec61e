package proxy

import (
	"bytes"
	"fmt"
	"slices"
	"time"
)

// A Direction is that of bytes.
type Direction uint8

const (
	// Up is from the client to the server.
	Up Direction = iota
	// Down is from the server to the client.
	Down
)

// String names the direction.
func (d Direction) String() string {
	if d == Down {
		return "down"
	}
	return "up"
}

// A How is a way to break a connection.
type How uint8

const (
	// FIN tells both ends that nothing more comes. What they still send is
	// dropped.
	FIN How = iota
	// RST resets the connection at both ends.
	RST
	// OneSided resets the connection at the client's end. The server's end
	// stays open and silent, until the server closes it: this is what is left
	// when a router forgets a connection.
	OneSided
)

// String names the way.
func (h How) String() string {
	return [...]string{"FIN", "RST", "one-sided RST"}[h]
}

// A Cut is a break to come.
type Cut struct {
	// Direction and After say where: when exactly that many more bytes have
	// been forwarded that way, over all connections together, the one that
	// carried the last of them is broken. With 0 it is the one that is about to
	// carry the next byte.
	Direction Direction
	After     int64
	// How says in which way.
	How How
	// Refuse is for how long from then on new connections are reset as soon as
	// they are there.
	Refuse time.Duration
}

// String says all of it in a few words.
func (c Cut) String() string {
	return fmt.Sprintf("%v after %d bytes %v, refusing for %v", c.How, c.After, c.Direction, c.Refuse)
}

// A Hit is a Cut that was carried out.
type Hit struct {
	Cut
	// Line is what of the line that was under way had been forwarded, its end at
	// most 512 bytes; empty between lines.
	Line []byte
}

// A plan is the cuts to come, one after the other: the bytes of each count from
// the one before. Its proxy's mutex guards it.
type plan struct {
	cuts []Cut         // the first of them with what is left until it
	hits []Hit         // what was carried out
	todo int           // cuts that were not carried out
	done chan struct{} // closed when todo is 0
}

// A due is a cut that is to be carried out.
type due struct {
	plan *plan
	cut  Cut
}

func newPlan(cuts []Cut) *plan {
	p := &plan{cuts: slices.Clone(cuts), todo: len(cuts), done: make(chan struct{})}
	if p.todo == 0 {
		close(p.done)
	}
	return p
}

// take says how much of n bytes that came in is to be forwarded, and the cut
// that is due after them, or nil.
func (p *plan) take(d Direction, n int) (forward int, next *due) {
	if len(p.cuts) == 0 || p.cuts[0].Direction != d {
		return n, nil
	}
	c := &p.cuts[0]
	if c.After > int64(n) {
		c.After -= int64(n)
		return n, nil
	}
	p.cuts = p.cuts[1:]
	return int(c.After), &due{plan: p, cut: *c}
}

// hit notes that a cut was carried out.
func (p *plan) hit(c Cut, line []byte) {
	p.hits = append(p.hits, Hit{Cut: c, Line: bytes.Clone(line)})
	if p.todo--; p.todo == 0 {
		close(p.done)
	}
}

// maxLine is how much of a line is kept.
const maxLine = 512

// follow returns the line that is under way after b, if before was under way
// before it.
func follow(before, b []byte) []byte {
	if i := bytes.LastIndexByte(b, '\n'); i >= 0 {
		before, b = before[:0], b[i+1:]
	}
	line := append(before, b...)
	if n := len(line) - maxLine; n > 0 {
		line = append(line[:0], line[n:]...)
	}
	return line
}
