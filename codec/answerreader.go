package codec

import (
	"bytes"
	"errors"
	"io"
	"time"
)

// ErrMalformedAnswer says that a line arrived that is no answer. Nothing more
// that comes on the connection can be trusted to belong to what was asked.
var ErrMalformedAnswer = errors.New("codec: malformed answer")

// An AnswerReader is the client's end of a connection: it reads answers. It is
// not safe for concurrent use.
type AnswerReader struct{ lines lineBuffer }

// NewAnswerReader returns a reader of the answers in r.
func NewAnswerReader(r io.Reader) *AnswerReader {
	return &AnswerReader{lines: lineBuffer{r: r}}
}

// Buffered returns the number of bytes that were read ahead of answers. What
// is there before anything was asked was not asked for.
func (ar *AnswerReader) Buffered() int { return ar.lines.buffered() }

// Read reads the next answer into a. It returns
//
//   - ErrMalformedAnswer after a line that is no answer, and ErrTooLong as
//     soon as a line is over its cap: MaxStats where it begins as a report,
//     MaxAnswer elsewhere. Either way, close the connection;
//   - io.EOF between answers, and io.ErrUnexpectedEOF inside one;
//   - any other error of the underlying reader as it is; after a timeout Read
//     may be called again and goes on where it was.
//
// Errors of the server are not errors of Read but answers. A server may know
// more of them than this package: those are Failed, with their Text.
func (ar *AnswerReader) Read(a *Answer) error {
	*a = Answer{}
	b := &ar.lines
	end, next, err := b.line(0, MaxAnswer)
	if err == ErrTooLong && bytes.HasPrefix(b.slice(0, b.buffered()), jsonPrefix) {
		end, next, err = b.line(0, MaxStats)
	}
	if err != nil {
		if err == io.EOF && b.buffered() > 0 {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	line := b.slice(0, end)
	b.consume(next)
	if !parseAnswer(a, line) {
		*a = Answer{}
		return ErrMalformedAnswer
	}
	return nil
}

var (
	jsonPrefix  = []byte("ok {")
	errorPrefix = []byte("error_")
)

func parseAnswer(a *Answer, line []byte) bool {
	if bytes.HasPrefix(line, jsonPrefix) {
		a.Status, a.JSON = OK, bytes.Clone(line[len(jsonPrefix)-1:])
		return true
	}
	args := arguments{rest: line}
	word := args.next()
	a.Status = parseStatus(word)
	switch a.Status {
	case OK:
		parseGrant(a, &args)
	case Acquired:
		a.Token, a.HasToken = args.token(), true
		a.TTL, a.HasTTL = args.seconds(0), true
	case Failed:
		if len(word) > len(statusWords[Failed]) {
			a.Text = string(line)
			return true
		}
	case 0:
		return false
	}
	return args.done()
}

// parseGrant reads what may follow "ok": nothing, what is left of a lease, or
// a token and its lease.
func parseGrant(a *Answer, args *arguments) {
	first := args.next()
	if len(first) == 0 {
		return
	}
	a.HasTTL = true
	if n, ok := parseNumber(first, maxSeconds); ok && len(first) != tokenDigits {
		a.TTL = time.Duration(n) * time.Second
		return
	}
	token, ok := ParseToken(first)
	args.failed = args.failed || !ok
	a.Token, a.HasToken = token, true
	a.TTL = args.seconds(0)
}

// parseStatus returns 0 for a word that is no status at all.
func parseStatus(word []byte) Status {
	for s := OK; int(s) < len(statusWords); s++ {
		if string(word) == statusWords[s] {
			return s
		}
	}
	if bytes.HasPrefix(word, errorPrefix) {
		return Failed
	}
	return 0
}
