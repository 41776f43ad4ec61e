// Package identity is what a process calls itself where others see who holds and
// who waits.
package identity

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// MaxName caps a name, in bytes, because it travels with every session and stands
// in every report.
const MaxName = 64

// Default returns host/pid/program of this process, which it finds out once. It is
// safe for concurrent use.
var Default = sync.OnceValue(func() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	program := "unknown"
	if len(os.Args) > 0 {
		program = filepath.Base(os.Args[0])
	}
	return From(host, os.Getpid(), program)
})

// From makes host/pid/program fit into a name: what is not printable ASCII
// becomes an underscore, and what is too long is cut.
func From(host string, pid int, program string) string {
	number := strconv.Itoa(pid)
	room := MaxName - len(number) - len("//")
	program = plain(program, room/2)
	return plain(host, room-len(program)) + "/" + number + "/" + program
}

// Fits says whether a name can be used as it is: 1 to MaxName bytes of printable
// ASCII without spaces.
func Fits(name string) bool { return name != "" && name == plain(name, MaxName) }

// plain is what is left of a text when all but printable ASCII is replaced, and it
// is cut.
func plain(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f {
			return '_'
		}
		return r
	}, s)
	return s[:min(len(s), most)]
}
