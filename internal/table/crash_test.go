package table

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// Lives plays tables that die, one after the other, by chance, with clients that
// keep to the rules and some that do not.
type lives struct {
	random *rand.Rand
	faults faults
	grace  func(mark time.Duration) time.Duration

	table  *Table
	now    time.Duration // of all tables together
	origin time.Duration // of the present one
	opens  time.Duration // nothing may be granted before
	mark   time.Duration
	owners []*Owner
	holds  []*belief
	fences map[string]uint64
	told   map[*Lease]*belief

	grants, claims, crashes int
}

// A belief is a grant that a client heard of.
type belief struct {
	kind     Kind
	key      string
	limit    int
	weight   int
	token    Token
	ttl      time.Duration
	until    time.Duration
	lease    *Lease // of the present table; nil if it is not claimed
	released bool   // the client does not believe in it any more
	buried   int    // the table in whose grace it ended, or 0
}

func (x *lives) believed(h *belief) bool { return !h.released && h.until > x.now }

func newLives(seed uint64, f faults, grace func(time.Duration) time.Duration) *lives {
	x := &lives{
		random: rand.New(rand.NewPCG(seed, 1)), faults: f, grace: grace, //nolint:gosec // it repeats itself on purpose
		now: 1, fences: make(map[string]uint64),
	}
	x.begin(Config{FirstFence: 1000})
	return x
}

func (x *lives) begin(cfg Config) {
	cfg.Sign, cfg.MaxIdle, cfg.PruneInterval = genuine, 2*second, second
	x.table = New(cfg)
	x.table.faults = x.faults
	x.told = make(map[*Lease]*belief)
	x.owners = nil
	for i := range 4 {
		x.owners = append(x.owners, x.table.NewSession(uint64(i)))
	}
}

func (x *lives) at() time.Duration { return x.now - x.origin }

// crash ends the table and begins the next one; clean is with all records.
func (x *lives) crash(clean bool) {
	x.crashes++
	var records []Record
	cfg := Config{FirstFence: x.table.Fence() + 5, ClaimTTL: x.mark}
	if clean && x.table.GraceEnd() == 0 {
		records = x.table.Records(x.at())
	} else {
		cfg.GraceEnd = x.grace(x.mark)
		if cfg.GraceEnd > 0 {
			cfg.GraceEnd++
		}
	}
	x.opens = x.now
	if records == nil {
		x.opens += x.mark
	}
	x.origin = x.now - 1
	x.begin(cfg)
	for _, h := range x.holds {
		h.lease = nil
	}
	for _, r := range records {
		x.table.Restore(x.at(), r)
	}
}

// step does one thing, and says what is wrong with what came of it.
func (x *lives) step() error {
	x.now += time.Duration(x.random.IntN(300)) * time.Millisecond
	x.table.Advance(x.at())
	var err error
	switch r := x.random.IntN(100); {
	case r < 35:
		x.ask()
	case r < 55:
		err = x.claim()
	case r < 75:
		err = x.release()
	case r < 98:
		o := x.owners[x.random.IntN(len(x.owners))]
		x.table.Beat(x.at(), o)
		for _, h := range x.holds {
			if h.lease != nil && h.lease.State() == Granted && h.lease.Owner() == o && x.believed(h) {
				h.until = x.now + h.lease.TTL() - 2*time.Millisecond
			}
		}
	default:
		x.crash(x.random.IntN(3) == 0)
	}
	if err := x.hear(); err != nil {
		return err
	}
	if err == nil {
		err = x.check()
	}
	return err
}

var livesKeys = []struct {
	kind  Kind
	name  string
	limit int
}{{Lock, "a", 1}, {Lock, "b", 1}, {Semaphore, "a", 3}}

func (x *lives) ask() {
	k := livesKeys[x.random.IntN(len(livesKeys))]
	r := Request{
		Kind: k.kind, Key: []byte(k.name), Owner: x.owners[x.random.IntN(len(x.owners))], Limit: k.limit,
		Weight: 1 + x.random.IntN(k.limit), TTL: time.Duration(1+x.random.IntN(6)) * second, Try: x.random.IntN(2) == 0,
	}
	x.mark = max(x.mark, r.TTL)
	l, err := x.table.Acquire(x.at(), r)
	if err == nil && l.State() == Granted {
		x.granted(l)
	}
}

func (x *lives) granted(l *Lease) {
	x.grants++
	h := &belief{
		kind: l.Kind(), key: l.Key(), limit: l.Limit(), weight: l.Weight(), token: l.Token(), ttl: l.TTL(),
		until: x.now + l.TTL() - 2*time.Millisecond, lease: l,
	}
	x.holds, x.told[l] = append(x.holds, h), h
}

// hear tells the clients what happened.
func (x *lives) hear() error {
	for _, e := range x.table.Events() {
		h := x.told[e.Lease]
		switch {
		case e.Kind == EventGranted:
			x.granted(e.Lease)
		case e.Kind == EventRevoked && h != nil:
			if x.believed(h) {
				return fmt.Errorf("a lease on %q that its client believes in was revoked", h.key)
			}
			h.released = true
		}
	}
	return nil
}

// claim claims anything, whether it is right to do so or not.
func (x *lives) claim() error {
	if len(x.holds) == 0 || !x.table.Recovering() {
		return nil
	}
	h := x.holds[len(x.holds)-1-x.random.IntN(min(len(x.holds), 12))]
	right := x.believed(h)
	l, err := x.table.Claim(x.at(), Request{
		Kind: h.kind, Key: []byte(h.key), Owner: x.owners[x.random.IntN(len(x.owners))], Limit: h.limit, Weight: h.weight, TTL: h.ttl,
	}, h.token)
	switch {
	case err == nil && h.buried == x.crashes:
		return fmt.Errorf("a lease on %q was claimed that had ended in this grace", h.key)
	case err == nil && h.lease == nil:
		x.claims++
		h.lease, x.told[l] = l, h
		if right {
			h.until = x.now + l.TTL() - 2*time.Millisecond
		}
	case err != nil && right && h.lease == nil:
		return fmt.Errorf("a lease on %q that its client believes in is not to be claimed: %w", h.key, err)
	}
	return nil
}

func (x *lives) release() error {
	if len(x.holds) == 0 {
		return nil
	}
	h := x.holds[len(x.holds)-1-x.random.IntN(min(len(x.holds), 12))]
	believed := x.believed(h)
	h.released = true
	grace := x.table.GraceEnd() != 0
	err := x.table.Release(x.at(), h.kind, []byte(h.key), h.token)
	if err == nil && grace {
		h.buried = x.crashes
	}
	if err != nil && believed && (h.lease != nil || grace) {
		return fmt.Errorf("a lease on %q that its client believes in is not to be released: %w", h.key, err)
	}
	return nil
}

// check holds what is promised against what is.
func (x *lives) check() error {
	var used [3]int
	for _, h := range x.holds {
		for i, k := range livesKeys {
			if k.kind == h.kind && k.name == h.key && x.believed(h) {
				used[i] += h.weight
			}
		}
	}
	for i, k := range livesKeys {
		if used[i] > k.limit {
			return fmt.Errorf("two believers: %d of %d of %q", used[i], k.limit, k.name)
		}
	}
	if len(x.holds) > 0 {
		h := x.holds[len(x.holds)-1]
		name := fmt.Sprint(h.kind, h.key)
		if f := h.token.Fence; f > x.table.cfg.FirstFence && f != x.fences[name] {
			if f < x.fences[name] {
				return fmt.Errorf("fence %d of %q after %d", f, h.key, x.fences[name])
			}
			x.fences[name] = f
			if x.now < x.opens {
				return fmt.Errorf("%q was granted %v before the grace ends", h.key, x.opens-x.now)
			}
		}
	}
	if len(x.holds) > 100 {
		x.holds = x.holds[50:]
	}
	return audit(x.table, append([]*Owner{x.table.past.owner}, x.owners...)...)
}

func fullGrace(mark time.Duration) time.Duration { return mark }

// playLives returns the first thing that goes wrong.
func playLives(seeds, steps int, f faults, grace func(time.Duration) time.Duration) (grants, claims, crashes int, err error) {
	for seed := range seeds {
		x := newLives(uint64(seed), f, grace)
		for i := range steps {
			if err := x.step(); err != nil {
				return grants, claims, crashes, fmt.Errorf("seed %d, step %d: %w", seed, i, err)
			}
		}
		grants, claims, crashes = grants+x.grants, claims+x.claims, crashes+x.crashes
	}
	return grants, claims, crashes, nil
}

// TestTablesThatDie has one table go on after the other, with and without the
// records of a clean stop.
func TestTablesThatDie(t *testing.T) {
	grants, claims, crashes, err := playLives(60, 2000, faults{}, fullGrace)
	t.Logf("%d grants, %d claims, %d tables", grants, claims, crashes)
	if err != nil {
		t.Fatal(err)
	}
	if grants < 1000 || claims < 500 {
		t.Error("that does not show much")
	}
}

// TestTablesThatDieFindsPlantedBugs makes sure that it is not blind.
func TestTablesThatDieFindsPlantedBugs(t *testing.T) {
	for _, c := range []struct {
		name   string
		faults faults
		grace  func(time.Duration) time.Duration
	}{
		{"no grace", faults{}, func(time.Duration) time.Duration { return 0 }},
		{"a grace shorter than the TTL", faults{}, func(mark time.Duration) time.Duration { return mark - second }},
		{"grants in the grace", faults{grantInGrace: true}, fullGrace},
		{"claim by the lower fence", faults{lowerWins: true}, fullGrace},
		{"claim after release", faults{noTombstone: true}, fullGrace},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, _, err := playLives(60, 2000, c.faults, c.grace)
			if err == nil {
				t.Fatal("not found")
			}
			t.Log(err)
		})
	}
}
