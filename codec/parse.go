package codec

import (
	"math"
	"time"
)

const (
	// maxSeconds is the largest whole number of seconds in a time.Duration.
	maxSeconds = int64(math.MaxInt64 / time.Second)
	// maxLimit is the same on every platform, whatever the size of an int.
	maxLimit = math.MaxInt32
)

// parseRequest fills r from the three lines of a request, and reports whether
// they are one.
func parseRequest(r *Request, word, key, argument []byte) bool {
	if !parseCommand(r, word) {
		return false
	}
	switch r.Command {
	case Auth:
		r.Secret = argument
		return true
	case Ping, Stats:
		// Their key and argument say nothing, and clients differ in them.
		return true
	}
	if !validKey(key) {
		return false
	}
	r.Key = key
	args := arguments{rest: argument}
	parseArguments(r, &args)
	return args.done()
}

func parseCommand(r *Request, word []byte) bool {
	switch string(word) {
	case "auth":
		r.Command = Auth
		return true
	case "ping":
		r.Command = Ping
		return true
	case "stats":
		r.Command = Stats
		return true
	}
	if len(word) == 2 && word[0] == 's' {
		r.Semaphore = true
		word = word[1:]
	}
	if len(word) != 1 {
		return false
	}
	switch word[0] {
	case 'l':
		r.Command = Lock
	case 'r':
		r.Command = Release
	case 'n':
		r.Command = Renew
	case 'e':
		r.Command = Enqueue
	case 'w':
		r.Command = Wait
	default:
		return false
	}
	return true
}

func parseArguments(r *Request, args *arguments) {
	switch r.Command {
	case Lock:
		r.Timeout = args.seconds(0)
		if r.Semaphore {
			r.Limit = int(args.number(1, maxLimit))
		}
		r.TTL = args.optionalSeconds()
	case Enqueue:
		if r.Semaphore {
			r.Limit = int(args.number(1, maxLimit))
		}
		r.TTL = args.optionalSeconds()
	case Wait:
		r.Timeout = args.seconds(0)
	case Release:
		r.Token = args.token()
	case Renew:
		r.Token = args.token()
		r.TTL = args.optionalSeconds()
	}
}

// arguments takes the fields of an argument line one by one. The first that is
// wrong or missing makes all that follow zero, so that only done need be asked.
type arguments struct {
	rest   []byte
	failed bool
}

// next returns the next field, empty at the end.
func (a *arguments) next() []byte {
	for len(a.rest) > 0 && isBlank(a.rest[0]) {
		a.rest = a.rest[1:]
	}
	n := 0
	for n < len(a.rest) && !isBlank(a.rest[n]) {
		n++
	}
	field := a.rest[:n]
	a.rest = a.rest[n:]
	return field
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// done reports whether every field was right and none is left.
func (a *arguments) done() bool { return !a.failed && len(a.next()) == 0 }

func (a *arguments) number(least, most int64) int64 {
	n, ok := parseNumber(a.next(), most)
	if !ok || n < least {
		a.failed = true
		return 0
	}
	return n
}

func (a *arguments) seconds(least int64) time.Duration {
	return time.Duration(a.number(least, maxSeconds)) * time.Second
}

// optionalSeconds reads a lease, which is at least a second when it is given.
func (a *arguments) optionalSeconds() time.Duration {
	before := *a
	if len(a.next()) == 0 {
		return 0
	}
	*a = before
	return a.seconds(1)
}

func (a *arguments) token() Token {
	t, ok := ParseToken(a.next())
	a.failed = a.failed || !ok
	return t
}

// parseNumber reads decimal digits and nothing else: package strconv would
// take a sign, and needs a string.
func parseNumber(b []byte, most int64) (int64, bool) {
	if len(b) == 0 {
		return 0, false
	}
	n := int64(0)
	for _, c := range b {
		digit := int64(c) - '0'
		if digit < 0 || digit > 9 || n > (most-digit)/10 {
			return 0, false
		}
		n = n*10 + digit
	}
	return n, true
}
