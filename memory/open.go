package memory

import (
	"fmt"
	"net/url"
	"time"

	"github.com/distributed-go/distributed/locker"
)

func init() { locker.Register("memory", open) }

// open makes the only client of a Server of its own from a URL: memory://, with
// at most the parameter ttl, the lease to ask for, as in memory://?ttl=10s.
func open(u locker.URL, _ locker.Dial) (locker.Backend, []locker.Option, error) {
	if len(u.Hosts) > 0 || u.Path != "" {
		return nil, nil, fmt.Errorf("%w: memory:// has no host and no path", locker.ErrInvalid)
	}
	opts, err := options(u.Query)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: memory://: %w", locker.ErrInvalid, err)
	}
	return New(), opts, nil
}

// options reads the parameters of a URL.
func options(query url.Values) ([]locker.Option, error) {
	var opts []locker.Option
	for name, values := range query {
		if name != "ttl" || len(values) != 1 {
			return nil, fmt.Errorf("parameter %q is not ttl, given once", name)
		}
		d, err := time.ParseDuration(values[0])
		if err != nil || d <= 0 {
			return nil, fmt.Errorf("ttl=%s: want a positive duration with a unit, such as 10s", values[0])
		}
		opts = append(opts, locker.WithTTL(d))
	}
	return opts, nil
}
