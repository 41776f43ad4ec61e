//go:build unix

package server

import (
	"net"
	"syscall"
)

// Direct writes to a connection as much as the kernel takes at once, and never
// waits. A connection whose goroutine may not wait for its client can so write
// its answers itself, where it would else need another goroutine, and most often
// another processor woken up for it. It is not safe for concurrent use.
type direct struct {
	raw  syscall.RawConn
	once func(fd uintptr) bool // is attempt: a method value would be allocated for each write

	out []byte // what is to be written
	n   int    // how much of it was
	err error
}

// newDirect returns nil for a connection that has no descriptor of its own, as
// one of TLS.
func newDirect(nc net.Conn) *direct {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	d := &direct{raw: raw}
	d.once = d.attempt
	return d
}

// write returns how many bytes the kernel took, which may be none.
func (d *direct) write(out []byte) (n int, err error) {
	d.out, d.n, d.err = out, 0, nil
	err = d.raw.Write(d.once)
	d.out = nil
	if err == nil {
		err = d.err
	}
	return d.n, err
}

// attempt is true because it is not to be tried again when the kernel has room.
func (d *direct) attempt(fd uintptr) bool {
	for {
		n, err := syscall.Write(int(fd), d.out) //nolint:gosec // descriptors are small
		switch err {
		case nil:
			d.n = n
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
		default:
			d.err = err
		}
		return true
	}
}
