package guard

import (
	"encoding/json"
	"errors"
	"net/http"
)

// A problem is the body of a refusal (RFC 9457). Fences are strings: numbers in
// JSON are exact up to 2⁵³ only.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Key    string `json:"key,omitempty"`
	Fence  uint64 `json:"fence,string,omitempty"`
	Seen   uint64 `json:"seen,string,omitempty"`
}

// refuse answers with the status and says why. What a store says stays here:
// it may name hosts.
func refuse(w http.ResponseWriter, status int, err error) {
	p := problem{Title: http.StatusText(status), Status: status, Detail: err.Error()}
	if status == http.StatusServiceUnavailable {
		p.Detail = "the fence could not be checked; try again"
	}
	var stale *StaleError
	if errors.As(err, &stale) {
		p.Key, p.Fence, p.Seen = stale.Key, stale.Fence, stale.Seen
		w.Header().Set(Header, formatHeader(stale.Key, stale.Seen))
	}
	body, err := json.Marshal(p)
	if err != nil {
		body = nil // cannot be: strings and numbers
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone
}
