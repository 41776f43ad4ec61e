package stocktest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// maxLine is the longest line, in bytes and without its line feed.
const maxLine = 256

// errMalformed ends a connection with "error".
var errMalformed = errors.New("malformed request")

// A client is one connection.
type client struct {
	srv    *Server
	nc     net.Conn
	r      *bufio.Reader
	ended  chan struct{}
	places map[string]*place // by key; used by serve alone
}

// A place is what e took: a place in a queue, or a lease.
type place struct {
	w *waiter
	l *lease
}

func newClient(s *Server, nc net.Conn) *client {
	return &client{srv: s, nc: nc, r: bufio.NewReaderSize(nc, maxLine+2), ended: make(chan struct{}), places: make(map[string]*place)}
}

func (c *client) serve() {
	defer close(c.ended)
	defer c.srv.drop(c)
	defer c.nc.Close() //nolint:errcheck // it is of no more use
	for {
		answer, err := c.request()
		if err == nil {
			_, err = io.WriteString(c.nc, answer+"\n")
		} else if errors.Is(err, errMalformed) || errors.Is(err, os.ErrDeadlineExceeded) {
			io.WriteString(c.nc, "error\n") //nolint:errcheck // it closes either way
		}
		if err != nil {
			return
		}
	}
}

// request reads a request and carries it out.
func (c *client) request() (answer string, err error) {
	var lines [3]string
	for i := range lines {
		if lines[i], err = c.line(); err != nil {
			return "", err
		}
	}
	command, key, args := lines[0], lines[1], strings.Fields(lines[2])
	if key == "" {
		return "", errMalformed
	}
	switch command {
	case "l":
		return c.lock(key, args)
	case "e":
		return c.enqueue(key, args)
	case "w":
		return c.wait(key, args)
	case "r":
		return c.release(key, args)
	case "n":
		return c.renew(key, args)
	}
	return "", errMalformed
}

func (c *client) line() (string, error) {
	if err := c.nc.SetReadDeadline(time.Now().Add(c.srv.cfg.ReadTimeout)); err != nil {
		return "", err
	}
	b, err := c.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) || err == nil && len(b) > maxLine+1 {
		return "", errMalformed
	}
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

func (c *client) lock(key string, args []string) (string, error) {
	wait, err := seconds(args, 0, 0)
	ttl, err2 := c.ttl(args, 1)
	if len(args) == 0 || err != nil || err2 != nil {
		return "", errMalformed
	}
	l, w := c.srv.acquire(c, key, ttl, wait > 0)
	if w != nil {
		l = c.await(key, w, wait)
	}
	return grant("ok", l), nil
}

// await waits for a turn. Nothing is read meanwhile.
func (c *client) await(key string, w *waiter, wait time.Duration) *lease {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case l := <-w.lease:
		return l
	case <-t.C:
	case <-c.srv.done:
	}
	return c.srv.leave(key, w)
}

func (c *client) enqueue(key string, args []string) (string, error) {
	ttl, err := c.ttl(args, 0)
	if err != nil {
		return "", err
	}
	if c.places[key] != nil {
		return "error", nil
	}
	l, w := c.srv.acquire(c, key, ttl, true)
	c.places[key] = &place{w, l}
	if l == nil {
		return "queued", nil
	}
	return grant("acquired", l), nil
}

func (c *client) wait(key string, args []string) (string, error) {
	wait, err := seconds(args, 0, 0)
	if len(args) != 1 || err != nil {
		return "", errMalformed
	}
	p := c.places[key]
	if p == nil {
		return "error", nil
	}
	delete(c.places, key)
	l := p.l
	if l == nil {
		l = c.await(key, p.w, wait)
	}
	if l != nil && !c.srv.collect(key, l) {
		return "error", nil
	}
	return grant("ok", l), nil
}

func (c *client) release(key string, args []string) (string, error) {
	if len(args) != 1 {
		return "", errMalformed
	}
	delete(c.places, key)
	if !c.srv.release(key, args[0]) {
		return "error", nil
	}
	return "ok", nil
}

func (c *client) renew(key string, args []string) (string, error) {
	ttl, err := c.ttl(args, 1)
	if len(args) == 0 || err != nil {
		return "", errMalformed
	}
	if !c.srv.renew(key, args[0], ttl) {
		return "error", nil
	}
	return fmt.Sprint("ok ", int(ttl/time.Second)-1), nil
}

func grant(word string, l *lease) string {
	if l == nil {
		return "timeout"
	}
	return fmt.Sprint(word, " ", l.token, " ", int(l.ttl/time.Second))
}

// ttl reads an optional lease, which must be the last argument.
func (c *client) ttl(args []string, i int) (time.Duration, error) {
	if len(args) <= i {
		return c.srv.cfg.DefaultTTL, nil
	}
	if len(args) > i+1 {
		return 0, errMalformed
	}
	return seconds(args, i, 1)
}

func seconds(args []string, i int, least int64) (time.Duration, error) {
	if len(args) <= i {
		return 0, nil
	}
	n, err := strconv.ParseInt(args[i], 10, 64)
	if err != nil || n < least || n > math.MaxInt64/int64(time.Second) {
		return 0, errMalformed
	}
	return time.Duration(n) * time.Second, nil
}
