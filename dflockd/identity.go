package dflockd

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// maxName caps a name in session mode.
const maxName = 64

// defaultName is what a process is called that was given no name.
var defaultName = sync.OnceValue(func() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	program := "unknown"
	if len(os.Args) > 0 {
		program = filepath.Base(os.Args[0])
	}
	return nameFrom(host, os.Getpid(), program)
})

// nameFrom makes host/pid/program fit into a name: what is not printable ASCII
// becomes an underscore, and what is too long is cut.
func nameFrom(host string, pid int, program string) string {
	number := strconv.Itoa(pid)
	room := maxName - len(number) - len("//")
	program = plain(program, room/2)
	return plain(host, room-len(program)) + "/" + number + "/" + program
}

func plain(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f {
			return '_'
		}
		return r
	}, s)
	return s[:min(len(s), most)]
}

// processFor returns how the process names itself to who is on the other end of
// a connection: empty where that is not this machine. The server checks it; one
// behind a tunnel finds that it is another machine's, and makes nothing of it.
func (c *config) processFor(nc net.Conn) string {
	if c.noProcess {
		return ""
	}
	switch a := nc.RemoteAddr().(type) {
	case *net.UnixAddr:
		return thisProcess()
	case *net.TCPAddr:
		if a.IP.IsLoopback() {
			return thisProcess()
		}
	}
	return ""
}
