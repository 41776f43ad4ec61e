package codec

import (
	"bytes"
	"errors"
	"io"
)

// ErrMalformedAnswer says that a line arrived that is no answer. Nothing more
// that comes on the connection can be trusted to belong to what was asked.
var ErrMalformedAnswer = errors.New("codec: malformed answer")

// An AnswerReader is the client's end of a connection: it reads answers. It is
// not safe for concurrent use.
type AnswerReader struct {
	lines lineBuffer
	mode  answerMode
}

// An answerMode says which lines may come.
type answerMode uint8

const (
	baseAnswers answerMode = iota
	helloAnswer
	frameAnswers
)

// NewAnswerReader returns a reader of the answers in r.
func NewAnswerReader(r io.Reader) *AnswerReader {
	return &AnswerReader{lines: lineBuffer{r: r}}
}

// Frames makes all that is read from now on frames of session mode; what was
// read ahead is kept.
func (ar *AnswerReader) Frames() { ar.mode = frameAnswers }

// Buffered returns the number of bytes that were read ahead of answers. What
// is there before anything was asked was not asked for.
func (ar *AnswerReader) Buffered() int { return ar.lines.buffered() }

// Ready says whether Read would return at once, with what was read ahead: for
// who does something once for all the answers that came together.
func (ar *AnswerReader) Ready() bool { return ar.lines.ready() }

// ReadHello is Read for the answer to Hello: "ok VERSION SESSION OFFERS" or
// "error_session", which are no answers of the base protocol, or any error. It
// does not call Frames.
func (ar *AnswerReader) ReadHello(a *Answer) error {
	return ar.read(a, helloAnswer)
}

// Read reads the next answer into a. It returns
//
//   - ErrMalformedAnswer after a line that is no answer, and ErrTooLong as
//     soon as a line is over its cap: MaxStats where it begins as a report or a
//     value, MaxAnswer elsewhere. Either way, close the connection;
//   - io.EOF between answers, and io.ErrUnexpectedEOF inside one;
//   - any other error of the underlying reader as it is; after a timeout Read
//     may be called again and goes on where it was.
//
// Errors of the server are not errors of Read but answers. A server may know
// more of them than this package: those are Failed, with their Text.
func (ar *AnswerReader) Read(a *Answer) error { return ar.read(a, ar.mode) }

func (ar *AnswerReader) read(a *Answer, mode answerMode) error {
	*a = Answer{}
	b := &ar.lines
	end, next, err := b.line(0, MaxAnswer)
	if err == ErrTooLong && isLong(b.slice(0, b.buffered()), mode) {
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
	if !parseLine(a, line, mode) {
		*a = Answer{}
		return ErrMalformedAnswer
	}
	return nil
}

var (
	jsonPrefix  = []byte("ok {")
	foundPrefix = []byte("value ")
	errorPrefix = []byte("error_")
)

// isLong reports whether a line begins as a report, or in frames as a value.
func isLong(line []byte, mode answerMode) bool {
	if mode != frameAnswers {
		return bytes.HasPrefix(line, jsonPrefix)
	}
	_, line, ok := cutID(line)
	return ok && (bytes.HasPrefix(line, jsonPrefix) || bytes.HasPrefix(line, foundPrefix))
}

// parseLine is a switch and not a function for each mode to call through: what
// a is would then escape to the heap, and there is one for every answer.
func parseLine(a *Answer, line []byte, mode answerMode) bool {
	switch mode {
	case helloAnswer:
		return parseWelcome(a, line)
	case frameAnswers:
		return parseFrame(a, line)
	}
	return parseOutcome(a, &arguments{rest: line}, Draining)
}

// parseOutcome reads a status, of which last is the last that may be, and what
// follows it.
func parseOutcome(a *Answer, args *arguments, last Status) bool {
	line := args.rest
	if bytes.HasPrefix(line, jsonPrefix) {
		a.Status, a.JSON = OK, bytes.Clone(line[len(jsonPrefix)-1:])
		return true
	}
	word := args.next()
	a.Status = parseStatus(word, last)
	switch a.Status {
	case OK:
		parseGrant(a, args)
	case Acquired:
		a.Token, a.HasToken = args.token(), true
		a.TTL, a.HasTTL = args.duration(0), true
	case Timeout:
		if args.frame {
			parseHolder(a, args)
		}
	case Queued:
		if args.frame {
			a.Position = int(args.number(0, maxLimit))
		}
	case Found:
		parseFound(a, args)
	case Failed:
		if len(word) > len(statusWords[Failed]) {
			a.Text = string(line)
			return true
		}
	case ErrSession:
		if a.Claim = !args.frame && string(bytes.Trim(args.rest, " \t")) == claimWord; a.Claim {
			return true
		}
		if len(args.rest) > 0 { // something that only later servers say
			a.Text = string(line)
			return true
		}
	case 0:
		return false
	}
	return args.done()
}

// parseGrant reads what may follow "ok": nothing, what is left of a lease, a
// count, a fence, or a token and its lease.
func parseGrant(a *Answer, args *arguments) {
	first := args.next()
	switch len(first) {
	case 0:
		return
	case tokenDigits:
		a.Token, a.HasToken = ParseToken(first)
		args.failed = args.failed || !a.HasToken
		a.TTL, a.HasTTL = args.duration(0), true
		return
	}
	if args.frame {
		a.Fence, a.HasFence = parseFence(first)
	}
	a.TTL, a.HasTTL = parseDuration(first, args.frame)
	args.failed = args.failed || !a.HasTTL && !a.HasFence // one may be of more seconds than there can be
	n, plain := parseNumber(first, maxLimit)
	a.Count, a.HasCount = int(n), plain
}

// parseHolder reads who holds what was not granted, and for how long, neither of
// which need be said.
func parseHolder(a *Answer, args *arguments) {
	name := args.next()
	if len(name) == 0 {
		return
	}
	if string(name) != nobody {
		a.Holder = string(name)
		args.failed = args.failed || CheckName(a.Holder) != nil
	}
	if args.more() {
		a.HeldFor = args.duration(0)
	}
}

// parseStatus returns 0 for a word that is no status at all, where last is the
// last that is known.
func parseStatus(word []byte, last Status) Status {
	for s := OK; s <= last; s++ {
		if string(word) == statusWords[s] {
			return s
		}
	}
	if bytes.HasPrefix(word, errorPrefix) {
		return Failed
	}
	return 0
}
