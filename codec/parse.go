package codec

import (
	"bytes"
	"math"
	"time"
)

const (
	// maxSeconds is the largest whole number of seconds in a time.Duration.
	maxSeconds = int64(math.MaxInt64 / time.Second)
	// maxLimit is the same on every platform, whatever the size of an int.
	maxLimit = math.MaxInt32
)

// parseRequest fills r from the three lines of a request, without its ID, and
// reports whether they are one. It is a frame if r has an ID.
func parseRequest(r *Request, word, key, argument []byte) bool {
	frame := r.ID != 0
	if !parseCommand(r, word) || !r.Command.exists(frame) {
		return false
	}
	args := arguments{rest: argument, frame: frame}
	switch r.Command {
	case Auth:
		r.Secret = argument
		return true
	case Ping, Stats:
		// Their key and argument say nothing, and clients differ in them.
		return true
	case Hello, Cancel, Beat, Sync, Bye:
		// Only clients of this project's protocol say these: they can be made
		// to leave free what may mean something one day.
		if string(key) != "_" {
			return false
		}
	default:
		if !validKey(key) {
			return false
		}
		r.Key = key
	}
	parseArguments(r, &args)
	return args.done()
}

func parseCommand(r *Request, word []byte) bool {
	if len(word) > 2 {
		for c := Auth; int(c) < len(words); c++ {
			if string(word) == words[c] {
				r.Command = c
				return true
			}
		}
		return false
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
		args.timeout(r)
		args.slots(r)
		r.TTL = args.optionalDuration()
		r.Fences = args.fences()
	case Enqueue:
		args.slots(r)
		r.TTL = args.optionalDuration()
		r.Fences = args.fences()
	case Wait:
		args.timeout(r)
		if args.frame {
			r.Ticket = args.id()
		}
	case Release:
		r.Token = args.token()
	case Renew:
		r.Token = args.token()
		r.TTL = args.optionalDuration()
	case Hello:
		r.Hello = args.greeting()
	case Cancel:
		r.Ticket = args.id()
	case Force:
		args.kind(r)
	case Claim:
		r.Token, r.TTL = args.token(), args.duration(1)
		r.Limit, r.Weight = int(args.number(1, maxLimit)), int(args.number(1, maxLimit))
	case Put:
		r.Token, r.Keep = args.token(), args.duration(0)
		r.Value = args.value()
		r.Volatile = args.word(volatileWord)
	case Delete:
		r.Token = args.token()
	case Join:
		args.join(r)
	case Beat, Sync, Bye, Get:
		args.failed = args.failed || string(args.next()) != "_"
	}
}

// arguments takes the fields of an argument line one by one. The first that is
// wrong or missing makes all that follow zero, so that only done need be asked.
type arguments struct {
	rest   []byte
	frame  bool // of session mode: with units and optional fields
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

// duration reads one of at least the given length. The base protocol has whole
// seconds alone.
func (a *arguments) duration(least time.Duration) time.Duration {
	d, ok := parseDuration(a.next(), a.frame)
	if !ok || d < least {
		a.failed = true
		return 0
	}
	return d
}

// timeout reads how long to wait.
func (a *arguments) timeout(r *Request) {
	ahead := *a
	if a.frame && string(ahead.next()) == "-" {
		*a, r.NoTimeout = ahead, true
		return
	}
	r.Timeout = a.duration(0)
}

// kind reads whether it is about a lock or a semaphore.
func (a *arguments) kind(r *Request) {
	word := string(a.next())
	r.Semaphore = word == kindWord(true)
	a.failed = a.failed || word != kindWord(r.Semaphore)
}

// slots reads the limit of a semaphore, and in frames the weight.
func (a *arguments) slots(r *Request) {
	if !r.Semaphore {
		return
	}
	r.Limit = int(a.number(1, maxLimit))
	if a.frame && a.more() {
		r.Weight = int(a.number(0, maxLimit))
	}
}

// optionalDuration reads a lease, which is more than nothing when it is given.
func (a *arguments) optionalDuration() time.Duration {
	if !a.more() {
		return 0
	}
	return a.duration(1)
}

var fencesPrefix = []byte("fences=")

// more reports whether another field follows, not counting that of the fences.
func (a *arguments) more() bool {
	ahead := *a
	field := ahead.next()
	return len(field) > 0 && !(a.frame && bytes.HasPrefix(field, fencesPrefix))
}

// word reads a last field that may be missing, and else is that word.
func (a *arguments) word(want string) bool {
	field := a.next()
	a.failed = a.failed || len(field) > 0 && string(field) != want
	return len(field) > 0 && !a.failed
}

// fences reads how many fences are asked for, if that is said.
func (a *arguments) fences() int {
	if !a.frame {
		return 0
	}
	field := a.next()
	if len(field) == 0 {
		return 0
	}
	digits, named := bytes.CutPrefix(field, fencesPrefix)
	n, ok := parseNumber(digits, maxLimit)
	if !named || !ok || n == 0 {
		a.failed = true
		return 0
	}
	return int(n)
}

// id reads the ID of a request.
func (a *arguments) id() uint64 {
	id, ok := parseID(a.next())
	a.failed = a.failed || !ok
	return id
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
