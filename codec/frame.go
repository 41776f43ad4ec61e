package codec

import (
	"bytes"
	"math"
	"time"
)

// cutID takes the ID off the first line of a frame, and reports whether there is
// a valid one.
func cutID(line []byte) (id uint64, rest []byte, ok bool) {
	end := 0 // bytes.Cut takes longer for so few bytes
	for end < len(line) && line[end] != ' ' {
		end++
	}
	id, ok = parseID(line[:end])
	return id, line[min(end+1, len(line)):], ok
}

// parseID reads 1 to MaxID without leading zeros: an ID has one spelling, so
// that it can be looked for in a log.
func parseID(b []byte) (uint64, bool) {
	if len(b) == 0 || b[0] == '0' {
		return 0, false
	}
	id, ok := parseNumber(b, MaxID)
	return uint64(id), ok
}

// parseDuration reads whole seconds, or in frames a whole number with a unit of
// package time.
func parseDuration(b []byte, frame bool) (time.Duration, bool) {
	unit := time.Second
	if frame {
		n := len(b)
		for n > 0 && b[n-1] >= 'a' {
			n--
		}
		if n < len(b) {
			unit = parseUnit(b[n:])
			b = b[:n]
		}
	}
	if unit == 0 {
		return 0, false
	}
	n, ok := parseNumber(b, int64(math.MaxInt64/unit))
	return time.Duration(n) * unit, ok
}

// parseUnit returns 0 for a unit that does not exist.
func parseUnit(b []byte) time.Duration {
	switch string(b) {
	case "ns":
		return time.Nanosecond
	case "us":
		return time.Microsecond
	case "ms":
		return time.Millisecond
	case "s":
		return time.Second
	case "m":
		return time.Minute
	case "h":
		return time.Hour
	}
	return 0
}

// greeting reads what Hello says. Words that are not known are ignored, so that
// clients can be given more to say; those that are must be right, and be said
// once.
func (a *arguments) greeting() *Greeting {
	g := &Greeting{Version: int(a.number(1, maxLimit))}
	g.Name = string(a.next())
	a.failed = a.failed || CheckName(g.Name) != nil
	for word := a.next(); len(word) > 0; word = a.next() {
		name, value, _ := bytes.Cut(word, []byte{'='})
		switch {
		case string(name) == "resume":
			a.failed = a.failed || g.Resuming
			g.Resume, g.Resuming = ParseSessionID(value)
			a.failed = a.failed || !g.Resuming
		case string(name) == "attempt":
			again := g.Attempt != 0
			g.Attempt, _ = parseID(value)
			a.failed = a.failed || again || g.Attempt == 0
		case string(name) == "process":
			a.failed = a.failed || g.Process != "" || len(value) == 0 || !printable(value)
			g.Process = string(value)
		case string(word) == "release-on-close":
			a.failed = a.failed || g.ReleaseOnClose
			g.ReleaseOnClose = true
		}
	}
	return g
}

// parseWelcome reads the answer to Hello.
func parseWelcome(a *Answer, line []byte) bool {
	args := arguments{rest: line}
	if string(args.next()) != statusWords[OK] {
		// Nothing else means success: an old server says "error".
		return parseOutcome(a, &arguments{rest: line}, ErrSession) && a.Status >= Failed && a.Status != Canceled
	}
	a.Status = OK
	a.Version = int(args.number(1, maxLimit))
	var ok bool
	a.Session, ok = ParseSessionID(args.next())
	if rest := bytes.Trim(args.rest, " \t"); len(rest) > 0 {
		a.Offers = bytes.Clone(rest)
	}
	return ok && !args.failed
}

// parseFrame reads a line of session mode: an answer with its ID, or a notice.
func parseFrame(a *Answer, line []byte) bool {
	if rest, ok := bytes.CutPrefix(line, []byte("0 ")); ok {
		return parseNotice(a, rest)
	}
	id, rest, ok := cutID(line)
	a.ID = id
	return ok && parseOutcome(a, &arguments{rest: rest, frame: true}, Unavailable)
}

func parseNotice(a *Answer, rest []byte) bool {
	args := arguments{rest: rest, frame: true}
	switch word := args.next(); string(word) {
	case "":
		return false
	case "lost":
		a.Notice = NoticeLost
		a.Key = bytes.Clone(args.next())
		a.Token, a.HasToken = args.token(), true
		a.Reason = string(args.next())
		return validLost(a) && args.done()
	case "displaced":
		a.Notice = NoticeDisplaced
	case "error":
		a.Notice = NoticeError
	default:
		a.Notice, a.Text = NoticeOther, string(rest)
		return true
	}
	return args.done()
}

// validLost holds the writer and the reader of a notice to one rule.
func validLost(a *Answer) bool {
	return len(a.Key) <= MaxLine && validKey(a.Key) && a.Reason != "" && len(a.Reason) <= maxReason && printable(a.Reason)
}
