package guard

import (
	"fmt"
	"net/http"
)

// A Transport sends the fence of a lease with every request. One is made for
// each hold; it is safe for concurrent use.
//
//	client := &http.Client{Transport: &guard.Transport{Lease: lease}}
//
// A redirect to another host takes the fence there; it is no secret.
type Transport struct {
	// Lease is the hold under which the requests are sent. It is required.
	Lease Lease
	// Base sends them. The default is http.DefaultTransport.
	Base http.RoundTripper
}

// RoundTrip sends the request with the header that SetHeader sets. If there is
// no fence, or the lease is not held any more, nothing is sent and the error of
// FenceOf returned.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	sent := r.Clone(r.Context()) // a RoundTripper must not change what it gets
	if err := SetHeader(sent, t.Lease); err != nil {
		if r.Body != nil {
			_ = r.Body.Close() // which a RoundTripper owes, also in errors
		}
		return nil, err
	}
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	return base.RoundTrip(sent)
}

// ResponseError returns a *StaleError if the response is a Handler's refusal of
// a stale fence, an error matching ErrNoFence if it asks for one, and else nil,
// whatever the status. It leaves the body alone.
func ResponseError(r *http.Response) error {
	switch r.StatusCode {
	case http.StatusPreconditionFailed:
		key, seen, err := parseHeader(r.Header)
		if err != nil {
			return nil // 412 for another reason
		}
		refused := &StaleError{Key: key, Seen: seen}
		if r.Request != nil {
			_, refused.Fence, _ = parseHeader(r.Request.Header) // 0 if the response is not a client's
		}
		return refused
	case http.StatusPreconditionRequired:
		return fmt.Errorf("guard: the server says %q: %w", r.Status, ErrNoFence)
	}
	return nil
}
