//go:build unix

package bench

import (
	"fmt"
	"net"
	"time"

	"github.com/distributed-go/distributed/codec"
)

// longWait is a wait that does not end in a benchmark.
const longWait = time.Minute

// A baseConn speaks the base protocol: one request, one answer. One goroutine
// uses it.
type baseConn struct {
	net.Conn
	answers *codec.AnswerReader
	out     []byte
}

func dialBase(addr string) (*baseConn, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &baseConn{Conn: conn, answers: codec.NewAnswerReader(conn)}, nil
}

// do makes a request and returns the token of its answer, if it has one.
func (c *baseConn) do(r *codec.Request) (codec.Token, error) {
	c.out = codec.AppendRequest(c.out[:0], r)
	if _, err := c.Write(c.out); err != nil {
		return codec.Token{}, err
	}
	var a codec.Answer
	if err := c.answers.Read(&a); err != nil {
		return codec.Token{}, err
	}
	if a.Status != codec.OK {
		return codec.Token{}, fmt.Errorf("%v answered %v", r.Command, a.Status)
	}
	return a.Token, nil
}
