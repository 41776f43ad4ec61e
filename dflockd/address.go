package dflockd

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// DefaultPort is the port of servers whose address names none.
const DefaultPort = 6388

// An address is where one server listens.
type address struct {
	host string // a name or an IP address, without brackets
	port uint16
}

// parseAddress reads "host", "host:port", "[::1]" or "[::1]:port". It does not
// resolve names: that is I/O, and the answer may change.
func parseAddress(s string) (address, error) {
	host, port := s, ""
	switch {
	case strings.HasPrefix(s, "["):
		inside, rest, closed := strings.Cut(s[1:], "]")
		if _, err := netip.ParseAddr(inside); err != nil || !closed || (rest != "" && rest[0] != ':') {
			return address{}, fmt.Errorf("server %q: want an IP address in the brackets, and nothing but :port behind them", s)
		}
		host, port = inside, strings.TrimPrefix(rest, ":")
		if rest == ":" {
			return address{}, fmt.Errorf("server %q: no port after the colon", s)
		}
	case strings.Count(s, ":") > 1:
		return address{}, fmt.Errorf("server %q: an IPv6 address needs brackets, as in [::1]:%d", s, DefaultPort)
	case strings.Contains(s, ":"):
		host, port, _ = strings.Cut(s, ":")
		if port == "" {
			return address{}, fmt.Errorf("server %q: no port after the colon", s)
		}
	}
	a := address{host: host, port: DefaultPort}
	if host == "" {
		return address{}, fmt.Errorf("server %q: no host", s)
	}
	if i := strings.IndexFunc(host, func(r rune) bool { return r <= ' ' || strings.ContainsRune("/@?#,\\\x7f", r) }); i >= 0 {
		return address{}, fmt.Errorf("server %q: %q does not belong into a host", s, host[i:i+1])
	}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return address{}, fmt.Errorf("server %q: port %q is not a number from 1 to 65535", s, port)
		}
		a.port = uint16(n)
	}
	return a, nil
}

// String returns the address as net.Dial wants it.
func (a address) String() string { return net.JoinHostPort(a.host, strconv.Itoa(int(a.port))) }

// local says whether the address can only be this machine. A name other than
// localhost is not: whoever answers for it may change.
func (a address) local() bool {
	if a.host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(a.host)
	return err == nil && ip.Unmap().IsLoopback()
}
