package codec

import (
	"bytes"
	"errors"
	"io"
)

// ErrMalformed says that a request of three lines was read and makes no sense.
// The connection is usable: the answer is Failed. A frame without a valid ID
// cannot even be answered, and ends the connection.
var ErrMalformed = errors.New("codec: malformed request")

// ErrFull says that Fill has read ahead as much as it does.
var ErrFull = errors.New("codec: enough read ahead")

// MaxAhead is how many bytes Fill reads ahead at most.
const MaxAhead = 16 << 10

// Read reads the next request into r. It returns
//
//   - ErrMalformed after three lines that are not a request; all that r has
//     then is the ID of a frame, or 0 if that is what is wrong;
//   - ErrTooLong as soon as a line is over its cap;
//   - io.EOF between requests, and io.ErrUnexpectedEOF inside one;
//   - any other error of the underlying reader as it is.
//
// After an error of the underlying reader, such as a timeout, nothing is lost:
// Read may be called again and goes on where it was.
func (rr *RequestReader) Read(r *Request) error {
	err := rr.read(r)
	if err == io.EOF && rr.lines.buffered() > 0 {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (rr *RequestReader) read(r *Request) error {
	*r = Request{}
	b := &rr.lines
	wordEnd, keyAt, err := b.line(0, MaxLine)
	if err != nil {
		return err
	}
	keyEnd, argAt, err := b.line(keyAt, MaxLine)
	if err != nil {
		return err
	}
	argEnd, next, err := b.line(argAt, rr.argumentCap(b.slice(0, wordEnd)))
	if err != nil {
		return err
	}
	word, key, arg := b.slice(0, wordEnd), b.slice(keyAt, keyEnd), b.slice(argAt, argEnd)
	b.consume(next)
	if rr.frame {
		var ok bool
		if r.ID, word, ok = cutID(word); !ok {
			return ErrMalformed
		}
	}
	if id := r.ID; !parseRequest(r, word, key, arg) {
		*r = Request{ID: id}
		return ErrMalformed
	}
	return nil
}

// argumentCap returns the cap on the third line of the request whose first line
// is given.
func (rr *RequestReader) argumentCap(line []byte) int {
	if !rr.frame {
		if string(line) == words[Auth] {
			return MaxSecret
		}
		return MaxLine
	}
	if !bytes.HasSuffix(line, valueWord) { // nearly always
		return MaxLine
	}
	if _, word, ok := cutID(line); !ok || string(word) != words[Put] {
		return MaxLine
	}
	return max(rr.maxArgument, MaxLine)
}

var valueWord = []byte(" put")

// Buffered returns the number of bytes that were read ahead of requests.
func (rr *RequestReader) Buffered() int { return rr.lines.buffered() }

// Fill reads ahead, once, without looking at what it reads, so that a server
// that must not go on to the next request yet still hears when the connection
// ends. It returns ErrFull, without reading, when MaxAhead bytes are waiting:
// a client that sends more than that has to wait too. Other errors are those
// of the underlying reader. It makes what Read returned last invalid.
func (rr *RequestReader) Fill() error {
	if rr.Buffered() >= MaxAhead {
		return ErrFull
	}
	return rr.lines.fill()
}
