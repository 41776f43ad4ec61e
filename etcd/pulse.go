package etcd

import (
	"context"
	"errors"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// A pulse is a stream on which leases are renewed, one renewal at a time. It lasts from
// renewal to renewal: where there is a user, etcd's client asks for a token for each
// stream, which costs etcd a hash of the password, as slow as they are meant to be, and
// an entry in its log. A stream with an attempt that was not answered is not used again,
// so that no answer is taken for another's. It is for one goroutine.
type pulse struct {
	b      *Backend
	stream pb.Lease_LeaseKeepAliveClient // nil if there is none
	end    context.CancelFunc            // of the stream
}

// beat renews a lease, once: the client's own KeepAliveOnce tries again and again,
// without a pause, while nobody is there.
func (p *pulse) beat(ctx context.Context, id clientv3.LeaseID) (granted time.Duration, err error) {
	if p.stream != nil {
		if granted, err = p.ask(ctx, id); err == nil || ctx.Err() != nil || errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return granted, err
		} // its connection may have broken long ago, its token may be too old
	}
	if err := p.open(ctx); err != nil {
		return 0, err
	}
	return p.ask(ctx, id)
}

// open makes a stream. The end of ctx ends the attempt to.
func (p *pulse) open(ctx context.Context) error {
	c, err := p.b.connect()
	if err != nil {
		return err
	}
	life, end := context.WithCancel(p.b.life)
	defer context.AfterFunc(ctx, end)()
	stream, err := clientv3.RetryLeaseClient(c).LeaseKeepAlive(life, grpc.WaitForReady(true))
	if err != nil {
		end()
		return rpctypes.Error(err)
	}
	p.stream, p.end = stream, end
	return nil
}

// ask sends a renewal and waits for its answer, until ctx ends.
func (p *pulse) ask(ctx context.Context, id clientv3.LeaseID) (granted time.Duration, err error) {
	intact := context.AfterFunc(ctx, p.end)
	err = p.stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(id)})
	r, failure := p.stream.Recv() // what Send failed with, it knows
	if failure != nil {
		err = failure
	}
	if !intact() || err != nil {
		p.stop()
	}
	if err != nil {
		return 0, rpctypes.Error(err)
	}
	return time.Duration(r.TTL) * time.Second, nil
}

// stop ends the stream.
func (p *pulse) stop() {
	if p.stream != nil {
		p.end()
		p.stream = nil
	}
}

// keepAliveOnce renews a lease with a stream of its own.
func (b *Backend) keepAliveOnce(ctx context.Context, id clientv3.LeaseID) (time.Duration, error) {
	p := pulse{b: b}
	defer p.stop()
	return p.beat(ctx, id)
}
