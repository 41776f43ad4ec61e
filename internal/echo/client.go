package echo

import (
	"bufio"
	"errors"
	"net"
	"runtime"
	"sync"
)

// A Client makes round trips over one connection. It is safe for concurrent
// use.
type Client struct {
	conn net.Conn
	lost chan struct{} // closed when the connection has ended

	mu      sync.Mutex
	err     error   // why it ended; set before lost is closed; guarded by mu
	waiting []*call // a ring of those without an answer, oldest first; its length is a power of two; guarded by mu
	head, n int     // of the ring; guarded by mu
	out     []byte  // what nobody writes yet; guarded by mu
	spare   []byte  // what was written last, to be filled again; guarded by mu
	writing bool    // somebody writes, or is about to; guarded by mu
	company bool    // others waited at the time of the last write; guarded by mu
}

// A call waits for one answer.
type call struct{ done chan struct{} }

var calls = sync.Pool{New: func() any { return &call{done: make(chan struct{}, 1)} }}

var errUnasked = errors.New("more answers than requests")

// request is what is sent: what stands in it matters to nobody.
var request [RequestSize]byte

// Dial connects to a server.
func Dial(addr string) (*Client, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &Client{conn: conn, lost: make(chan struct{}), waiting: make([]*call, 256)}
	go c.read()
	return c, nil
}

// Close ends the connection and waits for its reader.
func (c *Client) Close() {
	c.conn.Close()
	<-c.lost
}

// RoundTrip sends a request and waits for its answer.
func (c *Client) RoundTrip() error {
	cl := calls.Get().(*call)
	if c.send(cl) {
		c.flush()
	}
	select {
	case <-cl.done:
		calls.Put(cl)
		return nil
	case <-c.lost:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.err
	}
}

// send queues a request; it says whether the caller is to write.
func (c *Client) send(cl *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == len(c.waiting) {
		grown := make([]*call, 2*c.n)
		for i := range c.n {
			grown[i] = c.waiting[(c.head+i)&(c.n-1)]
		}
		c.waiting, c.head = grown, 0
	}
	c.waiting[(c.head+c.n)&(len(c.waiting)-1)] = cl
	c.n++
	c.out = append(c.out, request[:]...)
	mine := !c.writing
	c.writing = true
	return mine
}

// flush writes until there is nothing left to write. Where several goroutines
// are at it the others get the processor first, to join the same write; that is
// worth a factor of three with a hundred of them, and costs one that is alone
// some microseconds.
func (c *Client) flush() {
	c.mu.Lock()
	for len(c.out) > 0 {
		if c.company || c.n > 1 {
			c.mu.Unlock()
			runtime.Gosched()
			c.mu.Lock()
		}
		batch := c.out
		c.out, c.company = c.spare[:0], c.n > 1
		c.mu.Unlock()
		if _, err := c.conn.Write(batch); err != nil {
			c.conn.Close() // the reader says so to all
		}
		c.mu.Lock()
		c.spare = batch
	}
	c.writing = false
	c.mu.Unlock()
}

// read hands out answers until the connection ends.
func (c *Client) read() {
	defer close(c.lost)
	r := bufio.NewReaderSize(c.conn, bufferSize)
	for {
		_, err := r.Peek(AnswerSize)
		answers := r.Buffered() / AnswerSize
		c.mu.Lock()
		if err == nil && answers > c.n {
			err = errUnasked
		}
		if err != nil {
			c.err = err
			c.mu.Unlock()
			return
		}
		_, _ = r.Discard(answers * AnswerSize) // they are there
		for range answers {
			i := c.head & (len(c.waiting) - 1)
			c.waiting[i].done <- struct{}{}
			c.waiting[i] = nil
			c.head++
			c.n--
		}
		c.mu.Unlock()
	}
}
