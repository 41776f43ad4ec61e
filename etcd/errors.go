package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/distributed-go/distributed/locker"
)

// known are errors of etcd that say why a request was not, and will not be,
// carried out, and what they are to callers. Etcd gives all others, such as a
// lost leader, also where nobody knows; they match locker.ErrUnavailable.
var known = []struct{ etcd, locker error }{
	{rpctypes.ErrAuthFailed, locker.ErrAuth},
	{rpctypes.ErrUserEmpty, locker.ErrAuth},
	{rpctypes.ErrUserNotFound, locker.ErrAuth},
	{rpctypes.ErrPermissionNotGranted, locker.ErrAuth},
	{rpctypes.ErrPermissionDenied, locker.ErrAuth},
	{rpctypes.ErrInvalidAuthToken, locker.ErrAuth},
	{rpctypes.ErrAuthNotEnabled, locker.ErrAuth},
	{rpctypes.ErrAuthOldRevision, locker.ErrUnavailable},
	{rpctypes.ErrTooManyRequests, locker.ErrUnavailable},
	{rpctypes.ErrLeaseNotFound, locker.ErrUnavailable},
	{rpctypes.ErrTooManyOps, locker.ErrUnavailable},
	{rpctypes.ErrDuplicateKey, locker.ErrUnavailable},
	{rpctypes.ErrCompacted, locker.ErrUnavailable},
	{rpctypes.ErrNoSpace, locker.ErrUnavailable},
	{rpctypes.ErrRequestTooLarge, locker.ErrTooLarge},
	{rpctypes.ErrLeaseTTLTooLarge, locker.ErrInvalid},
}

// refused says whether an error is etcd's no: the request had no effect.
func refused(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	err = rpctypes.Error(err)
	for _, k := range known {
		if errors.Is(err, k.etcd) {
			return true
		}
	}
	return unsendable(err)
}

// unsendable says whether etcd's client did not send a request because it has more bytes
// than its configuration allows. Its own limit is 2 MiB.
func unsendable(err error) bool {
	s, ok := status.FromError(err)
	return ok && s.Code() == codes.ResourceExhausted && strings.Contains(s.Message(), "trying to send message larger than max")
}

// explain says what an error of etcd, or of the way to it, is to a caller.
func (b *Backend) explain(err error) error {
	if err == nil {
		return nil
	}
	if b.life.Err() != nil {
		return b.closedFor()
	}
	for _, k := range known {
		if errors.Is(rpctypes.Error(err), k.etcd) {
			return fmt.Errorf("%w: %w", k.locker, err)
		}
	}
	switch code := status.Code(err); {
	case code == codes.Unauthenticated, code == codes.PermissionDenied:
		return fmt.Errorf("%w: %w", locker.ErrAuth, err)
	case unsendable(err):
		return fmt.Errorf("%w: %w", locker.ErrTooLarge, err)
	}
	if errors.Is(err, context.DeadlineExceeded) { // of a request's own time
		return b.noAnswer()
	}
	if distrust(err.Error()) {
		return fmt.Errorf("%w: %w: %w", locker.ErrUnavailable, locker.ErrAuth, err)
	}
	return fmt.Errorf("%w: %w", locker.ErrUnavailable, err)
}

// ended returns what a context ended with: its error, and its cause where that
// says more.
func ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}

// errNoAnswer is why a try ends whose caller would wait for ever.
var errNoAnswer = fmt.Errorf("%w: no answer in %v", locker.ErrUnavailable, requestTimeout)

// errDeleted says that the key of one who waits is gone, and with it the place in
// the queue.
var errDeleted = fmt.Errorf("%w: the place in the queue was deleted", locker.ErrUnavailable)

// errNoSuchHold says that a token names no hold.
var errNoSuchHold = fmt.Errorf("%w: etcd has no key with this name and revision", locker.ErrNotHeld)
