//go:build unix

package faults

import (
	"fmt"
	"time"

	"github.com/distributed-go/distributed/e2e/internal/witness"
)

// A party is one side of a key that wires fight for, and writes down what workers
// write.
type party struct {
	*pausing
	*wire
	who, key string
	asked    int64
	token    string
}

// join connects, and asks for the key.
func (p *pausing) join(who, key string, patience time.Duration) (*party, error) {
	w, err := dialWire(p.ctx, p.server.Addr)
	if err != nil {
		return nil, err
	}
	y := &party{pausing: p, wire: w, who: who, key: key, asked: witness.Monotonic()}
	if err := y.note("ask", y.asked); err != nil {
		return nil, err
	}
	return y, w.send(fmt.Sprintf("l|%s|%d %d", key, int(patience.Seconds()), int(pauseTTL.Seconds())))
}

// enter waits for the grant.
func (y *party) enter() (at int64, err error) {
	words, err := y.get()
	if err == nil && (words[0] != "ok" || len(words) < 3) {
		err = fmt.Errorf("%s asked for %s and got %q", y.who, y.key, words)
	}
	if err != nil {
		return 0, err
	}
	y.token, at = words[1], witness.Monotonic()
	return at, y.note("enter", at)
}

// leave releases.
func (y *party) leave(believed int64) error {
	if err := y.note("leave", believed); err != nil {
		return err
	}
	words, err := y.do("r|" + y.key + "|" + y.token)
	if err != nil || words[0] != "ok" {
		return err // it has run out, and its end is unknown
	}
	return y.note("freed", witness.Monotonic())
}

func (y *party) note(what string, at int64) error {
	r := record{What: what, Who: y.who, Key: y.key, At: at}
	if what == "enter" {
		r.Fence = fenceOf(y.token)
	}
	return y.pausing.recorder.Write(r)
}

// silent takes a lease and never renews it, while another waits, who must not be
// granted it before it has lasted its TTL of the server's running time.
func (p *pausing) silent(n int, key string) error {
	holder, err := p.join(fmt.Sprintf("h%d-%s", n, key), key, 0)
	if err != nil {
		return err
	}
	defer holder.Close()
	if _, err := holder.enter(); err != nil {
		return err
	}
	next, err := p.join(fmt.Sprintf("n%d-%s", n, key), key, time.Hour)
	if err != nil {
		return err
	}
	defer next.Close()
	at, err := next.enter()
	if err != nil {
		return err
	}
	if d, stopped := p.ran(holder.asked, at); stopped {
		p.tally.Lock()
		p.lasted = append(p.lasted, float64(d-pauseTTL)/1e6)
		p.tally.Unlock()
		if d < pauseTTL {
			p.wrong("paused", "key %s: a lease of %v ended after %v of running time", key, pauseTTL, d)
		}
	}
	return next.leave(at)
}

// renew renews a lease all the time, also while the server is stopped, and another
// waits for it until the end.
func (p *pausing) renew(key string) error {
	holder, err := p.join("r-"+key, key, 0)
	if err != nil {
		return err
	}
	defer holder.Close()
	if _, err := holder.enter(); err != nil {
		return err
	}
	next, err := p.join("w-"+key, key, time.Hour)
	if err != nil {
		return err
	}
	defer next.Close()
	sent := make(chan int64, 1000) // many more than pile up
	wrote := make(chan error, 1)
	go func() {
		defer close(sent)
		wrote <- holder.sendRenewals(sent)
	}()
	believed, err := holder.confirmed(sent)
	for range sent { // so that the other one ends
	}
	if err == nil {
		err = <-wrote
	}
	if err == nil && believed != 0 {
		err = holder.leave(believed)
	}
	if err != nil {
		return err
	}
	at, err := next.enter()
	if err != nil {
		return err
	}
	return next.leave(at)
}

// sendRenewals asks for renewals until the last pause is over, and tells when.
func (y *party) sendRenewals(sent chan<- int64) error {
	for {
		select {
		case <-y.done:
			return nil
		case <-time.After(renewEvery): // real time: the server is another process
		}
		sent <- witness.Monotonic()
		if err := y.send(fmt.Sprintf("n|%s|%s %d", y.key, y.token, int(pauseTTL.Seconds()))); err != nil {
			return err
		}
	}
}

// confirmed reads the answers, and returns the last instant for which one says
// that the lease is held; 0 if it was lost.
func (y *party) confirmed(sent <-chan int64) (believed int64, err error) {
	believed = y.asked
	for at := range sent {
		words, err := y.get()
		if err != nil {
			return 0, err
		}
		ran, stopped := y.ran(believed, witness.Monotonic())
		if words[0] == "ok" {
			if stopped {
				y.tally.Lock()
				y.renewals++
				y.tally.Unlock()
			}
			believed = at
			if err := y.note("alive", at); err != nil {
				return 0, err
			}
			continue
		}
		if ran < pauseTTL {
			y.wrong("paused", "key %s: a renewal was answered %q, and the server had run for %v since the one before", y.key, words[0], ran)
		} else {
			y.tally.Lock()
			y.excused++
			y.tally.Unlock()
		}
		return 0, y.note("gone", believed)
	}
	return believed, nil
}
