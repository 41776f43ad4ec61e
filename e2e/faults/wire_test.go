//go:build unix

package faults

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"strings"
)

// A wire is a connection of a client that knows nothing of leases but what the
// server answers: it believes for as long as that says ok, whatever the clock
// says. So do clients of dflockd in other languages.
type wire struct {
	net.Conn
	answers *bufio.Reader
}

// dialWire connects. The end of ctx ends the connection, and every wait for an
// answer.
func dialWire(ctx context.Context, addr string) (*wire, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	return &wire{conn, bufio.NewReader(conn)}, nil
}

// send sends a request of three lines, written here with | between them.
func (w *wire) send(request string) error {
	_, err := fmt.Fprintf(w, "%s\n", strings.ReplaceAll(request, "|", "\n"))
	return err
}

// get returns the next answer, in words.
func (w *wire) get() ([]string, error) {
	line, err := w.answers.ReadString('\n')
	return append(strings.Fields(line), ""), err // so that there is a first word
}

func (w *wire) do(request string) ([]string, error) {
	if err := w.send(request); err != nil {
		return nil, err
	}
	return w.get()
}

// grant asks for a lock that is free and returns its token.
func (w *wire) grant(request string) (token string, err error) {
	words, err := w.do(request)
	if err == nil && (words[0] != "ok" || len(words) < 3) {
		err = fmt.Errorf("%q was answered %q", request, words)
	}
	if err != nil {
		return "", err
	}
	return words[1], nil
}

// fenceOf is the number in a token, and 0 if it is none.
func fenceOf(token string) uint64 {
	var b [8]byte
	if n, err := hex.Decode(b[:], []byte(token[:min(16, len(token))])); n != 8 || err != nil {
		return 0
	}
	return binary.BigEndian.Uint64(b[:])
}
