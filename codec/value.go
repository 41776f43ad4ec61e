package codec

import (
	"bytes"
	"encoding/base64"
	"math"
	"slices"
	"strconv"
	"time"
)

// AnyAge is a Request.Fresh that every value is young enough for.
const AnyAge time.Duration = math.MaxInt64

const (
	// DefaultValue is how many bytes a value may have where nobody says otherwise.
	DefaultValue = 64 << 10
	// MaxValue is the most that a server may let a value have: its line is then
	// still within what an AnswerReader takes.
	MaxValue = 32 << 20
	// MaxArgument caps the argument of a frame that carries a value of up to
	// DefaultValue.
	MaxArgument = (DefaultValue+2)/3*4 + beforeValue
	// beforeValue is for what stands before the value.
	beforeValue = 1 << 10
)

// ArgumentFor returns the cap for RequestReader.Frames of a server that takes
// values of up to maxValue bytes: what they have as base64, and 1 KiB.
func ArgumentFor(maxValue int) int { return base64.StdEncoding.EncodedLen(maxValue) + beforeValue }

// The offers of a server that keeps values, as Answer.Offer finds them.
const (
	OfferMaxValue = "max-value" // in bytes; without it there are no values
	OfferDurable  = "durable"   // leases and values are there after a restart
)

// MaxValue returns how many bytes a value may have at the server that answered
// Hello, and 0 if it keeps none, or says so in a way that makes no sense.
func (a *Answer) MaxValue() int {
	text, _ := a.Offer(OfferMaxValue)
	n, _ := parseNumber([]byte(text), maxLimit)
	return int(n)
}

// emptyValue stands for a value of no bytes: a field cannot be empty.
const emptyValue = "-"

// volatileWord ends the argument of Put of what need not survive a restart.
const volatileWord = "volatile"

// valueText refuses what has more than one spelling, but for line ends, which it
// ignores.
var valueText = base64.StdEncoding.Strict()

func appendValue(dst, value []byte) []byte {
	if len(value) == 0 {
		return append(dst, emptyValue...)
	}
	return valueText.AppendEncode(dst, value)
}

// appendPut appends the argument of Put.
func appendPut(dst []byte, r *Request) []byte {
	dst = slices.Grow(dst, tokenDigits+base64.StdEncoding.EncodedLen(len(r.Value))+32)
	dst = append(r.Token.AppendHex(dst), ' ')
	dst = append(appendDuration(dst, r.Keep, true), ' ')
	dst = appendValue(dst, r.Value)
	if r.Volatile {
		dst = append(append(dst, ' '), volatileWord...)
	}
	return dst
}

// appendJoin appends the argument of Join.
func appendJoin(dst []byte, r *Request) []byte {
	dst = append(appendTimeout(dst, r), ' ')
	dst = appendDuration(dst, r.TTL, true)
	switch {
	case r.Fresh == AnyAge:
		dst = append(dst, " -"...)
	case r.Fresh > 0:
		dst = appendDuration(append(dst, ' '), r.Fresh, true)
	}
	if r.Fences > 0 {
		dst = strconv.AppendInt(append(dst, " fences="...), int64(r.Fences), 10)
	}
	return dst
}

// join reads the argument of Join.
func (a *arguments) join(r *Request) {
	a.timeout(r)
	r.TTL = a.duration(0)
	if a.more() {
		ahead := *a
		if string(ahead.next()) == "-" {
			*a, r.Fresh = ahead, AnyAge
		} else {
			r.Fresh = a.duration(0)
		}
	}
	r.Fences = a.fences()
}

// value reads a value, and puts it where its text was.
func (a *arguments) value() []byte {
	text := a.next()
	if string(text) == emptyValue {
		return text[:0]
	}
	n, err := 0, error(nil)
	if !a.failed && bytes.IndexByte(text, '\r') < 0 {
		n, err = valueText.Decode(text, text)
	}
	a.failed = a.failed || err != nil || n == 0
	return text[:n]
}

// appendFound appends a value and what is to know of it.
func appendFound(dst []byte, a *Answer) []byte {
	dst = slices.Grow(dst, base64.StdEncoding.EncodedLen(len(a.Value))+64)
	return appendValue(appendFoundBy(dst, a), a.Value)
}

// appendFoundBy appends all but the value.
func appendFoundBy(dst []byte, a *Answer) []byte {
	dst = strconv.AppendUint(append(dst, ' '), a.Fence, 10)
	dst = appendLease(append(dst, ' '), a.Age, true)
	return append(dst, ' ')
}

// AppendFound is AppendAnswer for a frame with the status Found and a value that is
// not empty, up to that: whoever has many of those for one large value appends its
// text, by AppendText, and a line feed later.
func AppendFound(dst []byte, a *Answer) []byte {
	dst = append(strconv.AppendUint(dst, a.ID, 10), ' ')
	return appendFoundBy(append(dst, statusWords[Found]...), a)
}

// AppendText appends a piece of a value as it goes over the wire. All pieces but the
// last must have a multiple of three bytes.
func AppendText(dst, piece []byte) []byte { return valueText.AppendEncode(dst, piece) }

// parseFound reads what appendFound wrote.
func parseFound(a *Answer, args *arguments) {
	var ok bool
	a.Fence, ok = parseFence(args.next())
	args.failed = args.failed || !ok
	a.HasFence = true
	a.Age = args.duration(0)
	a.Value = append([]byte{}, args.value()...)
}

// parseFence reads decimal digits, fewer than a token has, of a number of 64 bits.
func parseFence(b []byte) (uint64, bool) {
	const most, digits = math.MaxUint64, 20
	if len(b) == 0 || len(b) > digits {
		return 0, false
	}
	n := uint64(0)
	for _, c := range b {
		digit := uint64(c) - '0'
		if digit > 9 || n > (most-digit)/10 {
			return 0, false
		}
		n = n*10 + digit
	}
	return n, true
}
