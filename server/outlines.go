package server

import (
	"github.com/distributed-go/distributed/codec"
)

// Outlines are lines that wait to be written. A value that many wait for is not
// copied for each of them: there is a reference to it, and its text is made piece by
// piece while it is written, by the goroutine of the connection that wants it. So an
// answer with a value costs a few dozen bytes until it leaves, and whoever makes it
// with the mutex of the locks held is done at once. The zero value is empty.
type outlines struct {
	text   []byte
	values []valueRef // in the order of where they are
	size   int        // what all of it counts for
}

// A valueRef is a value whose text belongs into a line.
type valueRef struct {
	at   int    // behind so many bytes of the text
	data []byte // never changed
	size int    // what it counts for
}

const (
	// copied is how many bytes a value has at most whose text is made at once: it
	// then costs hardly more than a reference, and can leave with other lines.
	copied = 1 << 10
	// refSize is what a reference counts for, beside its line.
	refSize = 40
)

func (o *outlines) empty() bool { return len(o.text) == 0 }

// add appends a line.
func (o *outlines) add(a *codec.Answer) {
	before := len(o.text)
	if a.Status != codec.Found || len(a.Value) <= copied {
		o.text = codec.AppendAnswer(o.text, a)
		o.size += len(o.text) - before
		return
	}
	o.text = codec.AppendFound(o.text, a)
	ref := valueRef{at: len(o.text), data: a.Value, size: refSize}
	if n := len(o.values); n == 0 || &o.values[n-1].data[0] != &a.Value[0] {
		ref.size += len(a.Value) // it may be there for this reference alone
	}
	o.values = append(o.values, ref)
	o.text = append(o.text, '\n')
	o.size += len(o.text) - before + ref.size
}

// before puts what was written in part back before all else.
func (o *outlines) before(text []byte) {
	for i := range o.values {
		o.values[i].at += len(text)
	}
	o.size += len(text)
	o.text = append(text, o.text...)
}

// each calls write with all that is to be written, in parts of flushAt bytes at
// most, and with what each of them counts for, until it fails.
func (o *outlines) each(write func(part []byte, size int) error) error {
	if len(o.values) == 0 {
		return eachPart(o.text, write)
	}
	p := parts{write: write, buf: make([]byte, 0, flushAt)}
	from := 0
	for _, v := range o.values {
		p.lines(o.text[from:v.at])
		p.value(v.data)
		p.size += v.size
		from = v.at
	}
	p.lines(o.text[from:])
	p.leave()
	return p.err
}

func eachPart(text []byte, write func(part []byte, size int) error) error {
	for len(text) > 0 {
		part := text[:min(len(text), flushAt)]
		if err := write(part, len(part)); err != nil {
			return err
		}
		text = text[len(part):]
	}
	return nil
}

// Parts are filled with what comes bit by bit.
type parts struct {
	write func(part []byte, size int) error
	buf   []byte
	size  int // what buf counts for
	err   error
}

// leave writes what has gathered.
func (p *parts) leave() {
	if p.err == nil && len(p.buf) > 0 {
		p.err = p.write(p.buf, p.size)
		p.buf, p.size = p.buf[:0], 0
	}
}

func (p *parts) lines(text []byte) {
	for len(text) > 0 && p.err == nil {
		n := min(len(text), cap(p.buf)-len(p.buf))
		p.buf = append(p.buf, text[:n]...)
		p.size += n
		if text = text[n:]; len(p.buf) == cap(p.buf) {
			p.leave()
		}
	}
}

// value adds the text of a value, in pieces of three bytes that become four.
func (p *parts) value(data []byte) {
	for len(data) > 0 && p.err == nil {
		n := min(len(data), (cap(p.buf)-len(p.buf))/4*3)
		if n == 0 {
			p.leave()
			continue
		}
		p.buf = codec.AppendText(p.buf, data[:n])
		data = data[n:]
	}
}
