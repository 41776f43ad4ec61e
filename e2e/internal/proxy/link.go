package proxy

import (
	"net"
	"time"
)

// A link is one connection that is forwarded. The mutex of its proxy guards what
// is not fixed from the start.
type link struct {
	proxy *Proxy
	ends  [2]*net.TCPConn // where bytes of each direction come from

	deaf bool      // nothing is forwarded any more
	line [2][]byte // the one under way, in each direction
}

func newLink(p *Proxy, client, server *net.TCPConn) *link {
	return &link{proxy: p, ends: [2]*net.TCPConn{Up: client, Down: server}}
}

// pipe forwards one direction, until both of its ends have nothing more to do
// with it.
func (l *link) pipe(d Direction) {
	from, to := l.ends[d], l.ends[1-d]
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && l.wait() {
			b, next := l.proxy.take(l, d, buf[:n])
			_, _ = to.Write(b) // an end that is gone says so when it is read
			if next != nil {
				l.proxy.carryOut(l, next)
			}
		}
		if err != nil {
			l.ended(to)
			return
		}
	}
}

// wait holds bytes up as the proxy was told to; it is false if the proxy was
// closed meanwhile.
func (l *link) wait() bool {
	d := l.proxy.held()
	if d == 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.proxy.closing:
		return false
	}
}

// ended passes the end of one end on to the other, unless nothing is passed on
// any more.
func (l *link) ended(to *net.TCPConn) {
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	if !l.deaf {
		to.CloseWrite() //nolint:errcheck // it is gone already then
	}
}

// cut breaks the link, with the mutex of the proxy held.
func (l *link) cut(how How) {
	l.deaf = true
	switch how {
	case FIN:
		for _, c := range l.ends {
			c.CloseWrite() //nolint:errcheck // it is gone already then
		}
	case RST:
		reset(l.ends[Up])
		reset(l.ends[Down])
	case OneSided:
		reset(l.ends[Up])
	}
}

func (l *link) close() {
	for _, c := range l.ends {
		c.Close()
	}
}

// reset closes a connection with RST.
func reset(c *net.TCPConn) {
	c.SetLinger(0) //nolint:errcheck // it is gone already then
	c.Close()
}
