package dflockd

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/locker"
)

// What becomes of a call. The reader that has the answer and the caller who
// tires of waiting race for it, and exactly one of them wins: so a grant that
// was on its way belongs either to the caller, or to the reader, which gives
// it back.
const (
	callPending   uint32 = iota
	callSettled          // answer or err is set, and the caller will look
	callAbandoned        // nobody will look; the slot in the queue stays, so that no answer is mispaired
)

// A call is one request and its answer. It is the slot in the queue of its
// connection as well.
type call struct {
	c      *conn
	wire   codec.Request // its Key is in key
	key    []byte        // used again with the call
	waits  bool          // the server may take any time
	posted bool          // nobody ever looked at it
	ping   bool          // posted for nothing but traffic
	tie    *tie          // what a grant, a renewal or a release changes; nil if nothing
	size   int           // bytes on the wire
	tick   int64         // when it was sent

	state  atomic.Uint32
	done   chan struct{} // capacity 1; one signal for each call that was not abandoned by its caller
	answer codec.Answer  // set before done is signalled
	err    error         // as answer
}

// A request is what a call asks for.
type request struct {
	command codec.Command
	kind    locker.Kind
	key     string
	timeout time.Duration
	ttl     time.Duration
	limit   int
	token   codec.Token
}

// newCall returns a call for a request on this connection. Calls that were
// settled are used again: a fresh call and channel for each request cost a
// tenth of the throughput. They are the backend's and not the program's,
// because a channel made in a synctest bubble must not leave it.
func (c *conn) newCall(req *request, t *tie) *call {
	cl, ok := c.srv.b.calls.Get().(*call)
	if !ok {
		cl = &call{done: make(chan struct{}, 1)}
	}
	cl.key = append(cl.key[:0], req.key...)
	cl.wire = codec.Request{
		Command: req.command, Semaphore: req.kind == locker.Counting, Key: cl.key,
		Timeout: req.timeout, TTL: req.ttl, Limit: req.limit, Token: req.token,
	}
	cl.c, cl.tie, cl.waits = c, t, req.timeout > 0
	cl.posted, cl.ping = false, false
	cl.state.Store(callPending)
	return cl
}

func (cl *call) kind() locker.Kind {
	if cl.wire.Semaphore {
		return locker.Counting
	}
	return locker.Exclusive
}

// newPost returns a call whose answer nobody looks at.
func (c *conn) newPost(req *request, t *tie) *call {
	cl := c.newCall(req, t)
	cl.posted = true
	cl.state.Store(callAbandoned)
	return cl
}

// settle hands the outcome to the caller. It returns false if nobody looks.
func (cl *call) settle(a *codec.Answer, err error) bool {
	// The caller reads these only after the signal; of those who may call
	// settle, the reader and the end of the connection, only one has the call.
	if a != nil {
		cl.answer = *a
	}
	cl.err = err
	if !cl.state.CompareAndSwap(callPending, callSettled) {
		if !cl.posted {
			cl.c.deserted.Add(-1)
		}
		return false
	}
	cl.done <- struct{}{}
	return true
}

// abandon leaves the call to the reader; it returns false if it is settled.
func (cl *call) abandon() bool {
	if !cl.state.CompareAndSwap(callPending, callAbandoned) {
		return false
	}
	cl.c.deserted.Add(1)
	return true
}

// giveUp makes the caller of a call return errNoAnswer. The slot stays.
func (cl *call) giveUp() {
	if cl.abandon() {
		cl.done <- struct{}{}
	}
}

// wait waits for the outcome. When ctx ends first, the call is abandoned and
// the error is the context's cause; when tend gave it up, errNoAnswer.
func (cl *call) wait(ctx context.Context) (codec.Answer, error) {
	if done := ctx.Done(); done == nil {
		<-cl.done
	} else {
		select {
		case <-cl.done:
		case <-done:
			if cl.abandon() {
				return codec.Answer{}, context.Cause(ctx)
			}
			<-cl.done
		}
	}
	if cl.state.Load() == callAbandoned {
		return codec.Answer{}, errNoAnswer // the reader still has it: it is not used again
	}
	a, err := cl.answer, cl.err
	cl.free()
	return a, err
}

// free puts a call back that nobody else refers to.
func (cl *call) free() {
	b := cl.c.srv.b
	cl.c, cl.tie, cl.err, cl.answer = nil, nil, nil, codec.Answer{}
	b.calls.Put(cl)
}

// A callQueue is a FIFO queue of calls. The zero value is empty.
type callQueue struct {
	ring []*call // its length is a power of two
	head int     // the first call's position, not reduced
	n    int
}

func (q *callQueue) len() int { return q.n }

// at returns the i-th call from the front.
func (q *callQueue) at(i int) *call { return q.ring[(q.head+i)&(len(q.ring)-1)] }

func (q *callQueue) push(cl *call) {
	if q.n == len(q.ring) {
		grown := make([]*call, max(8, 2*len(q.ring)))
		for i := range q.n {
			grown[i] = q.at(i)
		}
		q.ring, q.head = grown, 0
	}
	q.ring[(q.head+q.n)&(len(q.ring)-1)] = cl
	q.n++
}

// pop removes the first call; it returns nil if there is none.
func (q *callQueue) pop() *call {
	if q.n == 0 {
		return nil
	}
	i := q.head & (len(q.ring) - 1)
	cl := q.ring[i]
	q.ring[i] = nil
	q.head++
	q.n--
	if q.n == 0 && len(q.ring) > 1024 {
		q.ring, q.head = nil, 0 // a burst must not cost its memory for ever
	}
	return cl
}
