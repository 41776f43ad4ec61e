package etcd

import (
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-go/distributed/locker"
)

// DefaultPrefix is what all keys in etcd begin with, unless WithPrefix says
// otherwise.
const DefaultPrefix = "distributed/"

// A subject is what is locked: a key of a kind.
type subject struct {
	kind locker.Kind
	key  string
}

// letters are the first of what comes after the prefix.
var letters = map[locker.Kind]string{locker.Exclusive: "l/", locker.Counting: "s/"}

// between is what is between a subject and the name of an acquisition, and after
// is the byte that follows it.
const (
	between = " "
	after   = "!"
)

// An ident names an acquisition among those of this process, of which no two have
// the same at a time.
type ident struct {
	subject
	name uint64
}

// keys names things in etcd.
type keys struct{ prefix string }

// span is the range of the keys of all acquisitions, of locks and semaphores.
func (k keys) span() (from, to string) { return k.prefix + "l/", k.prefix + "s0" }

// of is the range of the keys of a subject.
func (k keys) of(s subject) (from, to string) {
	base := k.prefix + letters[s.kind] + s.key
	return base + between, base + after
}

// entry is the key of an acquisition.
func (k keys) entry(s subject, name uint64) string {
	return string(appendName([]byte(k.prefix+letters[s.kind]+s.key+between), name))
}

// created says that the key of an acquisition was created at a revision.
func (k keys) created(s subject, name uint64, rev int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(k.entry(s, name)), "=", rev)
}

// value is the key of what is published.
func (k keys) value(key string) string { return k.prefix + "v/" + key }

// values is the range of the keys of what is published.
func (k keys) values() (from, to string) { return k.prefix + "v/", k.prefix + "v0" }

// revoked names what says that a hold was revoked: as the key of the acquisition,
// below a prefix of its own.
func (k keys) revoked() keys { return keys{k.prefix + "x/"} }

// nameDigits is the length of a name.
const nameDigits = 16

func appendName(b []byte, name uint64) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, digits[name>>shift&15])
	}
	return b
}

// parse reads the key of an acquisition. What is none is nobody's.
func (k keys) parse(key []byte) (s subject, name uint64, ok bool) {
	rest, ok := strings.CutPrefix(string(key), k.prefix)
	if !ok || len(rest) < len("l/")+1+len(between)+nameDigits {
		return s, 0, false
	}
	switch rest[:2] {
	case letters[locker.Exclusive]:
		s.kind = locker.Exclusive
	case letters[locker.Counting]:
		s.kind = locker.Counting
	default:
		return s, 0, false
	}
	base, digits := rest[2:len(rest)-nameDigits], rest[len(rest)-nameDigits:]
	s.key, ok = strings.CutSuffix(base, between)
	name, err := strconv.ParseUint(digits, 16, 64)
	return s, name, ok && err == nil && s.key != "" && strings.ToLower(digits) == digits
}

// A record is what stands under the key of an acquisition.
type record struct {
	weight, limit int
	asked         int64 // milliseconds since 1970, by the wall clock of who asked
	holder        string
}

// String is the text of the record.
func (r record) String() string {
	b := make([]byte, 0, 96)
	b = append(strconv.AppendInt(b, int64(r.weight), 10), ' ')
	b = append(strconv.AppendInt(b, int64(r.limit), 10), ' ')
	b = append(strconv.AppendInt(b, r.asked, 10), ' ')
	return string(append(b, r.holder...))
}

// parseRecord reads a record. Text that is none, of a version to come or by hand,
// takes all that there is: to let somebody in beside it would be worse.
func parseRecord(text []byte) record {
	weight, rest, _ := strings.Cut(string(text), " ")
	limit, rest, _ := strings.Cut(rest, " ")
	asked, holder, _ := strings.Cut(rest, " ")
	var r record
	var errs [3]error
	r.weight, errs[0] = strconv.Atoi(weight)
	r.limit, errs[1] = strconv.Atoi(limit)
	r.asked, errs[2] = strconv.ParseInt(asked, 10, 64)
	r.holder = holder
	if errs != [3]error{} || r.weight < 1 || r.limit < r.weight {
		return record{weight: 1, limit: 1}
	}
	return r
}

// heldFor is the time since a hold was asked for; 0 if that is not known.
func (r record) heldFor(now time.Time) time.Duration {
	if r.asked <= 0 {
		return 0
	}
	return max(0, now.Sub(time.UnixMilli(r.asked)))
}

// token makes the token of a hold: its revision of creation, which is its fence,
// and its name.
func token(rev int64, name uint64) (t locker.Token) {
	binary.BigEndian.PutUint64(t[:8], uint64(rev)) //nolint:gosec // revisions are positive
	binary.BigEndian.PutUint64(t[8:], name)
	return t
}

func readToken(t locker.Token) (rev int64, name uint64) {
	return int64(binary.BigEndian.Uint64(t[:8])), binary.BigEndian.Uint64(t[8:]) //nolint:gosec // compared only
}
