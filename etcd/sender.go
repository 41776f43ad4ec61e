package etcd

import (
	"context"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// requestTimeout bounds every request. It is what etcd itself gives a request
	// at most, with its default settings: 5 s and two election timeouts.
	requestTimeout = 7 * time.Second

	// lanes is how many transactions are under way before what comes next waits
	// to go with others.
	lanes = 4

	// slow is how long a transaction occupies its lane at most: behind a member
	// that does not answer, others must not have to wait.
	slow = 250 * time.Millisecond

	// maxLanes bounds those too.
	maxLanes = 64

	// patience is how long a request that can wait does, at most.
	patience = 2 * time.Millisecond

	// maxOps is how many operations go in one transaction. Etcd takes 128 by
	// default.
	maxOps = 100

	// maxBytes is how many bytes of values go in one transaction. Etcd takes requests
	// of 1.5 MiB by default, and its client sends no more than 2 MiB.
	maxBytes = maxValue
)

// An op is a part of a transaction: operations that are carried out together, and
// what is done with the outcome.
type op struct {
	then []clientv3.Op
	// patient says that it can wait for another to go with, for patience.
	patient bool
	// alone is set if there must not be another op with it in one transaction.
	alone subject
	// bytes is how long the value is that it puts.
	bytes int
	// withdrawn says that it is not to be sent any more. Guarded by sender.mu.
	withdrawn bool
	sent      bool // guarded by sender.mu
	// done is called once, unless the Backend is closed, on a goroutine of the sender's, with an answer to each
	// of the operations, and the revision after them; or with an error.
	done func(answers []*pb.ResponseOp, rev int64, err error)
}

// A sender sends ops, in transactions of their own while there are few, and
// together while there are many.
type sender struct {
	b *Backend

	mu    sync.Mutex
	queue []*op // guarded by mu
	busy  int   // lanes in use, but for those that are slow; guarded by mu
	all   int   // lanes in use; guarded by mu
}

// submit sends an op. It does not wait, and may be called with Backend.mu held. After
// Close nothing is sent, and nobody told.
func (s *sender) submit(o *op) {
	s.mu.Lock()
	s.queue = append(s.queue, o)
	s.mu.Unlock()
	if o.patient {
		time.AfterFunc(patience, s.start)
		return
	}
	s.start()
}

// withdraw takes back an op that was not sent yet, and says whether it was: then nobody
// is told of an outcome. Who gives up soon, again and again, must not leave more to send
// than there are callers.
func (s *sender) withdraw(o *op) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.withdrawn = !o.sent
	return o.withdrawn
}

// carry is submit for who waits for nothing else than the outcome: where a lane is
// free the caller sends the op itself, which saves it being woken, and takes others
// along if it does not go away soon. The end of ctx, or of a time, ends the attempt.
func (s *sender) carry(ctx context.Context, within time.Duration, o *op) {
	brief := ctx.Done() != nil || within < requestTimeout/2
	s.mu.Lock()
	free := ctx.Err() == nil && (len(s.queue) == 0 || !brief) && s.busy < lanes && s.all < maxLanes && s.b.join()
	if free {
		s.busy++
		s.all++
		o.sent = true
	}
	s.mu.Unlock()
	if !free {
		s.submit(o)
		return
	}
	defer s.b.wg.Done()
	batch := []*op{o}
	if !brief {
		batch = s.next(o)
	}
	attempt := s.b.life
	if ctx.Done() != nil {
		var cancel context.CancelFunc
		attempt, cancel = context.WithCancel(attempt)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
	}
	overtaken := s.timed(func() { s.send(attempt, within, batch) })
	s.mu.Lock()
	if s.all--; !overtaken {
		s.busy--
	}
	s.mu.Unlock()
	s.start()
}

// start opens a lane if there is something to send and one is free.
func (s *sender) start() {
	s.mu.Lock()
	open := len(s.queue) > 0 && s.busy < lanes && s.all < maxLanes
	if open {
		s.busy++
		s.all++
	}
	s.mu.Unlock()
	if open {
		s.b.background(s.lane)
	}
}

// lane sends what there is, until it was slow itself, when another has taken its
// place.
func (s *sender) lane() {
	for {
		batch := s.next(nil)
		if len(batch) == 0 {
			return
		}
		overtaken := s.timed(func() { s.send(s.b.life, requestTimeout, batch) })
		if overtaken {
			s.mu.Lock()
			s.all--
			s.mu.Unlock()
			s.start()
			return
		}
	}
}

// timed calls f, and gives the lane away while that takes too long; it says
// whether it did.
func (s *sender) timed(f func()) (overtaken bool) {
	t := time.AfterFunc(slow, func() {
		s.mu.Lock()
		s.busy--
		s.mu.Unlock()
		s.start()
	})
	f()
	return !t.Stop()
}

// next takes what goes into one transaction, after an op that does in any case, if
// there is one. Without anything the lane is closed.
func (s *sender) next(first *op) []*op {
	s.mu.Lock()
	defer s.mu.Unlock()
	var l load
	if first != nil {
		l.add(first)
	}
	kept := s.queue[:0]
	for i, o := range s.queue {
		if o.withdrawn {
			continue
		}
		if l.full(o) {
			kept = append(kept, s.queue[i:]...)
			break
		}
		if !l.add(o) {
			kept = append(kept, o)
		}
	}
	clear(s.queue[len(kept):])
	s.queue = kept
	if len(l.ops) == 0 {
		s.busy--
		s.all--
	}
	return l.ops
}

// A load is what goes into one transaction.
type load struct {
	ops         []*op
	size, bytes int
	subjects    map[subject]struct{} // of those that are to be alone; nil if there are none
}

// full says that there is no room for an op.
func (l *load) full(o *op) bool {
	return len(l.ops) > 0 && (l.size+len(o.then) > maxOps || l.bytes+o.bytes > maxBytes)
}

// add takes an op in, unless it must be alone.
func (l *load) add(o *op) bool {
	if o.alone != (subject{}) {
		if _, taken := l.subjects[o.alone]; taken {
			return false
		}
		if l.subjects == nil {
			l.subjects = make(map[subject]struct{})
		}
		l.subjects[o.alone] = struct{}{}
	}
	o.sent = true
	l.ops = append(l.ops, o)
	l.size += len(o.then)
	l.bytes += o.bytes
	return true
}

// send sends a batch, and each part of it alone if etcd refuses it.
func (s *sender) send(ctx context.Context, within time.Duration, batch []*op) {
	answers, rev, err := s.transact(ctx, within, batch)
	if err != nil && len(batch) > 1 && refused(err) {
		for _, o := range batch {
			s.send(ctx, within, []*op{o})
		}
		return
	}
	for _, o := range batch {
		if err != nil {
			o.done(nil, 0, err)
			continue
		}
		n := len(o.then)
		o.done(answers[:n:n], rev, nil)
		answers = answers[n:]
	}
}

func (s *sender) transact(ctx context.Context, within time.Duration, batch []*op) ([]*pb.ResponseOp, int64, error) {
	c, err := s.b.connect()
	if err != nil {
		return nil, 0, err
	}
	ops := batch[0].then
	if len(batch) > 1 {
		ops = nil
		for _, o := range batch {
			ops = append(ops, o.then...)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if len(ops) == 1 && ops[0].IsTxn() { // no need to nest it
		r, err := c.Do(ctx, ops[0])
		if err != nil {
			return nil, 0, err
		}
		t := (*pb.TxnResponse)(r.Txn())
		return []*pb.ResponseOp{{Response: &pb.ResponseOp_ResponseTxn{ResponseTxn: t}}}, t.Header.Revision, nil
	}
	if len(ops) == 1 && ops[0].IsDelete() { // the cheapest of all
		r, err := c.Do(ctx, ops[0])
		if err != nil {
			return nil, 0, err
		}
		d := (*pb.DeleteRangeResponse)(r.Del())
		return []*pb.ResponseOp{{Response: &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: d}}}, d.Header.Revision, nil
	}
	r, err := c.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return nil, 0, err
	}
	return r.Responses, r.Header.Revision, nil
}
