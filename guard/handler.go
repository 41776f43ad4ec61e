package guard

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// A Handler serves requests in the order of their fences. Requests of one
// holder are served at the same time; one with a larger fence waits until those
// with a smaller are served, which from then on are refused. So Next need not
// know of fences, as long as this process alone writes to the resource.
//
// Where several processes do, the order between them is not kept by any
// middleware, whatever Store they share: a request may be let through and then
// wait in its process for minutes. There Next takes key and fence with
// FromContext, and hands them to the guard of what it writes to, as
// Table.Check.
//
// A request without a fence is served if its method is safe (GET, HEAD, OPTIONS,
// TRACE), and else answered 428 Precondition Required. A stale fence is answered
// 412 Precondition Failed, with the largest fence in the header; a malformed
// header 400; a store that fails, or a context that ends while the request
// waits, 503. The bodies are application/problem+json. ResponseError tells
// clients what they mean.
//
// Put it behind authentication: whoever may send a large fence can lock others
// out. It is safe for concurrent use and must not be copied.
type Handler struct {
	// Next serves the requests that are let through. It is required. The turn
	// of the request ends when it returns, so it must not leave work behind, as
	// http.TimeoutHandler does: that belongs around the Handler.
	Next http.Handler
	// Store remembers the largest fences. The default is a Memory of its own,
	// which forgets them when the process ends.
	Store Store
	// Key returns the key of the lock that protects what a request is for; a
	// request that carries another is answered 400. The default believes the
	// request, which is as good as its clients are.
	Key func(*http.Request) string

	gate   gate
	memory Memory // if Store is nil
}

var _ http.Handler = (*Handler)(nil)

// A claim is what a request came with.
type claim struct {
	key   string
	fence uint64
}

type claimKey struct{}

// FromContext returns key and fence of the request that a Handler let through,
// and false if there are none: the request came without.
func FromContext(ctx context.Context) (key string, fence uint64, ok bool) {
	c, ok := ctx.Value(claimKey{}).(claim)
	return c.key, c.fence, ok
}

// ServeHTTP lets the request through to Next, or refuses it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := h.claim(r)
	switch {
	case errors.Is(err, ErrNoFence) && safe(r.Method):
		h.Next.ServeHTTP(w, r)
		return
	case errors.Is(err, ErrNoFence):
		refuse(w, http.StatusPreconditionRequired, err)
		return
	case err != nil:
		refuse(w, http.StatusBadRequest, err)
		return
	}
	if err := h.gate.enter(r.Context(), c.key, c.fence); err != nil {
		refuse(w, statusOf(err), err)
		return
	}
	defer h.gate.leave(c.key)
	if err := Check(r.Context(), h.store(), c.key, c.fence); err != nil {
		refuse(w, statusOf(err), err)
		return
	}
	h.Next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), claimKey{}, c)))
}

func (h *Handler) store() Store {
	if h.Store == nil {
		return &h.memory
	}
	return h.Store
}

// claim returns what the request came with.
func (h *Handler) claim(r *http.Request) (claim, error) {
	key, fence, err := parseHeader(r.Header)
	if err != nil || h.Key == nil {
		return claim{key, fence}, err
	}
	if want := h.Key(r); key != want {
		return claim{}, fmt.Errorf("guard: the fence is for %q, but %q protects this resource", key, want)
	}
	return claim{key, fence}, nil
}

// safe says whether a method only reads (RFC 9110, 9.2.1).
func safe(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

func statusOf(err error) int {
	if errors.Is(err, ErrStale) {
		return http.StatusPreconditionFailed
	}
	return http.StatusServiceUnavailable
}
