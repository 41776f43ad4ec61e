package demo

import "context"

// A step is one thing that a play has a worker do.
type step struct {
	who   *Worker
	order string
	event string // to wait for; "" waits for nothing
}

// perform does the steps, one after the other.
func perform(ctx context.Context, steps ...step) error {
	for _, s := range steps {
		if err := s.who.Tell("%s", s.order); err != nil {
			return err
		}
		if s.event == "" {
			continue
		}
		if _, err := s.who.Await(ctx, s.event); err != nil {
			return err
		}
	}
	return nil
}

// A moment is an event of a worker.
type moment struct {
	worker int
	event  string
}

// follow faults records that are not these moments in this order, beside which
// workers become ready. For an event of the demo itself the worker is the one
// that it happens to.
func follow(records []Record, script []moment, v *Verdict) {
	i := 0
	for _, r := range records {
		m := moment{r.Worker, r.Event}
		if r.Worker == 0 {
			m.worker = r.N
		}
		switch {
		case m.event == evReady:
			continue
		case i == len(script):
			v.fault("worker %d: %q after the end", m.worker, m.event)
			return
		case m != script[i]:
			v.fault("worker %d: %q where worker %d: %q was due", m.worker, m.event, script[i].worker, script[i].event)
			return
		}
		i++
	}
	if i < len(script) {
		v.fault("worker %d: no %q", script[i].worker, script[i].event)
	}
}

// find returns the first record of a moment, and a zero one if there is none.
func find(records []Record, m moment) Record {
	for _, r := range records {
		if r.Event == m.event && (r.Worker == m.worker || r.Worker == 0 && r.N == m.worker) {
			return r
		}
	}
	return Record{}
}
