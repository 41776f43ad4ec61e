package guard

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Header is the name of the HTTP header that carries the fence of a request:
//
//	Distributed-Fence: key=invoices%2F7; fence=1785715200000000008
//
// The key is percent-encoded as in the query of a URL, the fence decimal. In a
// refusal it says the largest fence that was seen.
const Header = "Distributed-Fence"

// SetHeader puts key and fence of a lease into the request. It returns what
// FenceOf does when there is none, and leaves the request without.
func SetHeader(r *http.Request, l Lease) error {
	r.Header.Del(Header)
	fence, err := FenceOf(l)
	if err != nil {
		return err
	}
	r.Header.Set(Header, formatHeader(l.Key(), fence))
	return nil
}

// What is parsed has bounds: the longest key of a lock, and a header with such a
// key, of which each byte may have become three, and room for the rest.
const (
	maxKey    = 256
	maxHeader = 1024
)

func formatHeader(key string, fence uint64) string {
	return "key=" + url.QueryEscape(key) + "; fence=" + strconv.FormatUint(fence, 10)
}

// parseHeader returns key and fence of a request or a refusal. The error
// matches ErrNoFence if there is no header at all.
func parseHeader(h http.Header) (key string, fence uint64, err error) {
	values := h.Values(Header)
	switch {
	case len(values) == 0:
		return "", 0, fmt.Errorf("guard: header %s: %w", Header, ErrNoFence)
	case len(values) > 1:
		return "", 0, fmt.Errorf("guard: header %s is there %d times: once is right", Header, len(values))
	case len(values[0]) > maxHeader:
		return "", 0, fmt.Errorf("guard: header %s of %d bytes: at most %d are right", Header, len(values[0]), maxHeader)
	}
	key, fence, ok := parseValue(values[0])
	if !ok {
		return "", 0, fmt.Errorf("guard: header %s is %q: right would be key=invoices; fence=8", Header, values[0])
	}
	return key, fence, nil
}

// parseValue is the inverse of formatHeader.
func parseValue(v string) (key string, fence uint64, ok bool) {
	escaped, digits, _ := strings.Cut(v, ";")
	escaped, isKey := strings.CutPrefix(strings.TrimSpace(escaped), "key=")
	digits, isFence := strings.CutPrefix(strings.TrimSpace(digits), "fence=")
	key, badKey := url.QueryUnescape(escaped)
	fence, badFence := strconv.ParseUint(digits, 10, 64)
	return key, fence, isKey && isFence && badKey == nil && badFence == nil &&
		key != "" && len(key) <= maxKey && fence != 0
}
