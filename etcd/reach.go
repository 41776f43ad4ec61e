package etcd

import (
	"context"
	"errors"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/distributed-go/distributed/locker"
)

// soon bounds a question that etcd's client answers itself.
const soon = 50 * time.Millisecond

// A noAnswerError is a locker.ErrUnavailable of an etcd that did not answer in time. It
// says who was asked, and what the way there was last seen to fail with.
type noAnswerError struct {
	asked []string
	why   string // empty if that is not known
	ended error  // what the caller's context ended with; nil if it was not that
}

// Error does not repeat what the caller's context says.
func (e *noAnswerError) Error() string {
	s := locker.ErrUnavailable.Error() + ": no answer from " + strings.Join(e.asked, ", ")
	if e.why != "" {
		s += ": " + e.why
	}
	return s
}

// Unwrap returns ErrUnavailable, what the context ended with, and ErrAuth if one end does
// not trust the other.
func (e *noAnswerError) Unwrap() []error {
	is := []error{locker.ErrUnavailable}
	if distrust(e.why) {
		is = append(is, locker.ErrAuth)
	}
	if e.ended != nil {
		is = append(is, e.ended)
	}
	return is
}

// distrust says whether a text of gRPC's is of a certificate that was not taken.
func distrust(text string) bool { return strings.Contains(text, "authentication handshake failed") }

// noAnswer is the error of a request that was not answered before a context of the
// Backend's own ended.
func (b *Backend) noAnswer() *noAnswerError {
	e := &noAnswerError{asked: b.endpoints}
	if why := b.trouble.Load(); why != nil {
		e.why = *why
	}
	return e
}

// unanswered is the error of a request that was not answered before ctx ended.
func (b *Backend) unanswered(ctx context.Context) error {
	e := b.noAnswer()
	if e.why == "" {
		e.why = b.broken()
	}
	if e.ended = ended(ctx); errors.Is(e.ended, errNoAnswer) {
		e.ended = nil // the caller's would not have ended
	}
	return e
}

// watchOver sees what the attempts of a client's requests fail with. The client tries
// again, and in the end says only that time is up.
func (b *Backend) watchOver(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, conn, opts...)
	switch code := status.Code(err); code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		text := status.Convert(err).Message()
		_, balancer, found := strings.Cut(text, "balancer error: ")
		if found {
			text = balancer
		}
		if why := pithy(text); found || code == codes.Unavailable {
			b.trouble.Store(&why)
		}
	default:
		if b.trouble.Load() != nil {
			b.trouble.Store(nil)
		}
	}
	return err
}

// broken says why the client has no connection, if it has none and knows why. It sends
// nothing.
func (b *Backend) broken() string {
	c := b.client.Load()
	if c == nil || c.ActiveConnection().GetState() != connectivity.TransientFailure {
		return ""
	}
	ctx, cancel := context.WithTimeout(b.life, soon)
	defer cancel()
	_, err := pb.NewKVClient(c.ActiveConnection()).Range(ctx, &pb.RangeRequest{Key: []byte(b.keys.prefix)}, grpc.WaitForReady(false))
	if status.Code(err) != codes.Unavailable {
		return ""
	}
	return pithy(status.Convert(err).Message())
}

// pithy returns what a text of gRPC's says beside what it repeats:
// connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: ...".
func pithy(text string) string {
	if _, after, found := strings.Cut(text, `desc = "transport: `); found {
		text = strings.TrimSuffix(after, `"`)
	}
	return strings.TrimPrefix(text, "Error while dialing: ")
}
