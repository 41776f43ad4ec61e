package dflockd

import "net"

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
