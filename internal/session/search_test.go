package session

import (
	"errors"
	"flag"
	"fmt"
	"hash/maphash"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/distributed-go/distributed/codec"
)

var full = flag.Bool("full", false, "search larger scopes, which takes many minutes")

// A scope bounds a search, so that it comes to an end.
type scope struct {
	name    string
	ttl     time.Duration // in ticks of a second
	ticks   int
	flight  int      // messages in one direction of a connection
	pipes   int      // connections of one client that are not over at the same time
	window  int      // of resumes; 0 is the usual one
	budgets []budget // of each client
	deaths  int      // of the server
	stops   int      // of the server, in good order
	durable bool     // values are on disk before anybody learns of them
}

// A budget is what a client may still do.
type budget struct {
	locks, enqueues, cancels, beats, cuts, kills, releases int8
	more                                                   int8 // locks of other keys, while something is wanted or held
	joins, puts, dels                                      int8
}

// values says whether the clients have to do with any.
func (sc *scope) values() bool {
	return slices.ContainsFunc(sc.budgets, func(b budget) bool { return b.joins > 0 || b.puts > 0 })
}

func (b budget) append(dst []byte) []byte {
	return append(dst, byte(b.locks), byte(b.enqueues), byte(b.cancels), byte(b.beats), byte(b.cuts), byte(b.kills), byte(b.releases), byte(b.more), byte(b.joins), byte(b.puts), byte(b.dels))
}

// A state is a world and what may still happen in it.
type state struct {
	*world
	budgets []budget
	ticks   int
	deaths  int // that may still come
	stops   int
}

// A search goes through every order in which things can happen within a scope.
type search struct {
	scope
	sf     serverFaults
	cf     clientFaults
	grace  func(mark time.Duration) time.Duration // nil for the right one
	copier *copier
	digest digester
	seen   map[uint64]struct{}
	until  time.Time

	steps, deepest int
	path           []move
}

// errTooLong ends a search that takes longer than it may.
var errTooLong = errors.New("the search takes too long")

func newSearch(sc scope, sf serverFaults, cf clientFaults) *search {
	return &search{
		scope: sc, sf: sf, cf: cf, copier: newCopier(),
		digest: digester{seed: maphash.MakeSeed()}, seen: make(map[uint64]struct{}),
	}
}

// run searches from the state in which all clients have just connected.
func (s *search) run() error {
	w := newNarrowWorld(len(s.budgets), s.window, s.sf, s.cf)
	if s.grace != nil {
		w.grace = s.grace
	}
	if s.values() {
		w.keepValues(s.durable)
	}
	first := state{world: w, budgets: s.budgets, ticks: s.ticks, deaths: s.deaths, stops: s.stops}
	for _, a := range w.actors {
		w.connect(a)
		w.deliverUp(a.pipe)
		w.deliverDown(a.pipe)
	}
	return s.expand(first)
}

// expand makes every step that can be made from the state.
func (s *search) expand(from state) error {
	s.deepest = max(s.deepest, len(s.path))
	moves := s.moves(from)
	for i, m := range moves {
		if s.steps++; s.steps%1024 == 0 && !s.until.IsZero() && time.Now().After(s.until) {
			return errTooLong
		}
		next := from
		next.budgets = append([]budget(nil), from.budgets...)
		if i < len(moves)-1 { // the last one can have the state itself
			next.world = s.copier.world(from.world)
		}
		s.path = append(s.path, m)
		if err := s.visit(m, next); err != nil {
			return err
		}
		s.path = s.path[:len(s.path)-1]
	}
	return nil
}

// visit makes one step, and goes on from where it leads if that is new.
func (s *search) visit(m move, next state) error {
	m.make(s, &next)
	s.reduce(next.world)
	next.tidy()
	if err := next.check(); err != nil {
		return err
	}
	d := s.digest.world(next.world, next.budgets, next.ticks)
	if _, ok := s.seen[d]; ok {
		return nil
	}
	s.seen[d] = struct{}{}
	return s.expand(next)
}

// reduce takes away messages whose delivery changes nothing, whenever it comes:
// lines of a connection that the client has left, and requests of one that has
// been displaced. With a planted bug that makes them count they stay.
func (s *search) reduce(w *world) {
	for _, p := range w.pipes {
		if w.actors[p.actor].pipe != p && !s.cf.lateAnswers {
			p.down = nil
		}
		if p.link != nil && p.link.session == nil && !s.sf.staleWins {
			p.up = nil
		}
	}
}

// A move is one step, by what happens and to whom.
type move struct {
	kind moveKind
	who  int // an actor, or a pipe
}

type moveKind uint8

const (
	moveTick moveKind = iota
	moveUp
	moveDown
	moveLock
	moveMore
	moveEnqueue
	moveWait
	moveRelease
	moveCancel
	moveBeat
	moveCut
	moveKill
	moveConnect
	moveDie
	moveStop
	moveJoin
	movePut
	moveDel
	moveWrite
)

func (m move) String() string {
	names := [...]string{"tick", "up", "down", "lock", "more", "enqueue", "wait", "release", "cancel", "beat", "cut", "kill", "connect", "die", "stop", "join", "put", "del", "write"}
	return fmt.Sprint(names[m.kind], m.who)
}

// moves returns what can happen next.
func (s *search) moves(from state) []move {
	var all []move
	for i, p := range from.pipes {
		if from.canUp(p) {
			all = append(all, move{moveUp, i})
		}
		if from.canDown(p) {
			all = append(all, move{moveDown, i})
		}
	}
	for i, a := range from.actors {
		all = s.programs(all, from, i, a)
	}
	for i, k := range worldKeys {
		if len(from.kept.writes[k.name]) > 0 {
			all = append(all, move{moveWrite, i})
		}
	}
	if from.ticks > 0 {
		all = append(all, move{moveTick, 0})
	}
	if from.deaths > 0 {
		all = append(all, move{moveDie, 0})
	}
	if from.stops > 0 {
		all = append(all, move{moveStop, 0})
	}
	return all
}

// programs adds what the program of a client can do.
func (s *search) programs(all []move, from state, i int, a *actor) []move {
	b := from.budgets[i]
	add := func(ok bool, kind moveKind) {
		if ok {
			all = append(all, move{kind, i})
		}
	}
	if a.over != "" {
		return all
	}
	pipes := 0
	for _, p := range from.pipes {
		if p.actor == i {
			pipes++
		}
	}
	add(a.pipe == nil && pipes < s.pipes, moveConnect)
	add(a.pipe != nil && b.cuts > 0, moveCut)
	add(a.pipe != nil && b.kills > 0, moveKill)
	if a.pipe != nil && len(a.pipe.up) >= s.flight {
		return all
	}
	add(a.client.Up() && b.beats > 0 && len(a.tasks) > 0 && (a.client.beat == nil || a.client.beat.state != sent), moveBeat)
	if len(a.tasks) == 0 {
		add(b.locks > 0, moveLock)
		add(b.enqueues > 0, moveEnqueue)
		add(b.joins > 0, moveJoin)
		return all
	}
	t := a.tasks[0]
	add(b.more > 0, moveMore)
	add(t.state == placed, moveWait)
	add(t.state == holding && b.releases > 0, moveRelease)
	add(t.state == holding && b.puts > 0, movePut)
	add(t.state == holding && b.dels > 0, moveDel)
	add(t.state != holding && !t.quit && b.cancels > 0, moveCancel)
	return all
}

// make makes the move.
func (m move) make(s *search, on *state) {
	var a *actor
	var b *budget
	if m.kind > moveDown && m.kind < moveDie || m.kind > moveStop && m.kind < moveWrite {
		a, b = on.actors[m.who], &on.budgets[m.who]
	}
	switch m.kind {
	case moveTick:
		on.ticks--
		on.pass(time.Second, false)
	case moveUp:
		on.deliverUp(on.pipes[m.who])
	case moveDown:
		on.deliverDown(on.pipes[m.who])
	case moveLock:
		b.locks--
		on.acquire(a, 0, codec.Lock, 1, -1, s.ttl)
	case moveMore:
		b.more--
		on.acquire(a, len(a.tasks), codec.Lock, 1, -1, s.ttl)
	case moveEnqueue:
		b.enqueues--
		on.acquire(a, 0, codec.Enqueue, 1, -1, s.ttl)
	case moveWait:
		on.wait(a, a.tasks[0], -1)
	case moveRelease:
		b.releases--
		on.release(a, a.tasks[0])
	case moveCancel:
		b.cancels--
		on.cancel(a, a.tasks[0])
	case moveBeat:
		b.beats--
		a.client.Beat(a.now)
	case moveCut:
		b.cuts--
		on.cut(a)
	case moveKill:
		b.kills--
		on.kill(a.pipe, 0, false)
	case moveConnect:
		on.connect(a)
	case moveDie:
		on.deaths--
		on.crash(false)
	case moveStop:
		on.stops--
		on.crash(true)
	case moveJoin:
		b.joins--
		on.join(a, 0, -1, s.ttl, 0)
	case movePut:
		b.puts--
		on.change(a, a.tasks[0], codec.Put, 0)
	case moveDel:
		b.dels--
		on.change(a, a.tasks[0], codec.Delete, 0)
	case moveWrite:
		on.write(worldKeys[m.who].name)
	}
	for _, a := range on.actors {
		on.settle(a)
	}
}

// The default scopes. Each is small in other directions.
var scopes = []scope{
	{
		name: "a lock each, one cut", ttl: 3 * time.Second, ticks: 4, flight: 2, pipes: 2,
		budgets: []budget{{locks: 1, cuts: 1, releases: 1}, {locks: 1}},
	},
	{
		name: "beats over a break", ttl: 3 * time.Second, ticks: 4, flight: 1, pipes: 1,
		budgets: []budget{{locks: 1, beats: 1, kills: 1}, {locks: 1}},
	},
	{
		name: "a ticket, one break", ttl: 3 * time.Second, ticks: 4, flight: 2, pipes: 1,
		budgets: []budget{{enqueues: 1, kills: 1}, {locks: 1}},
	},
	{
		name: "cancels", ttl: 3 * time.Second, ticks: 2, flight: 2, pipes: 2,
		budgets: []budget{{locks: 1, cuts: 1, cancels: 1}, {locks: 1, releases: 1}},
	},
	{
		name: "two cuts", ttl: 3 * time.Second, ticks: 1, flight: 2, pipes: 3,
		budgets: []budget{{locks: 1, cuts: 2, releases: 1}},
	},
	{
		name: "two holds, named one by one", ttl: 3 * time.Second, ticks: 2, flight: 2, pipes: 1, window: 1,
		budgets: []budget{{locks: 1, more: 1, kills: 1, releases: 1}, {locks: 1}},
	},
}

// Restart scopes are those in which the server ends and another one begins.
var restartScopes = []scope{
	{
		name: "a lock each, one death", ttl: 3 * time.Second, ticks: 4, flight: 2, pipes: 1, deaths: 1,
		budgets: []budget{{locks: 1, releases: 1}, {locks: 1}},
	},
	{
		name: "a lock each, one stop", ttl: 3 * time.Second, ticks: 4, flight: 2, pipes: 1, stops: 1,
		budgets: []budget{{locks: 1, releases: 1}, {locks: 1}},
	},
	{
		name: "a ticket, a stop and a death", ttl: 3 * time.Second, ticks: 2, flight: 2, pipes: 1, stops: 1, deaths: 1,
		budgets: []budget{{enqueues: 1, beats: 1, cancels: 1}},
	},
}

// wideScopes take minutes each: -full.
var wideScopes = []scope{
	{
		name: "a death and a cut", ttl: 3 * time.Second, ticks: 2, flight: 2, pipes: 2, deaths: 1,
		budgets: []budget{{locks: 1, cuts: 1, releases: 1}, {locks: 1}},
	},
	{
		name: "a lock and a cut each", ttl: 3 * time.Second, ticks: 5, flight: 3, pipes: 2,
		budgets: []budget{{locks: 1, cuts: 1, releases: 1}, {locks: 1, cuts: 1}},
	},
	{
		name: "beats over two breaks", ttl: 4 * time.Second, ticks: 6, flight: 2, pipes: 2,
		budgets: []budget{{locks: 1, beats: 2, kills: 2}, {locks: 1}},
	},
	{
		name: "a ticket, one cut", ttl: 3 * time.Second, ticks: 5, flight: 3, pipes: 2,
		budgets: []budget{{enqueues: 1, cuts: 1, beats: 1, cancels: 1}, {locks: 1, releases: 1}},
	},
	{
		name: "two locks each", ttl: 3 * time.Second, ticks: 4, flight: 3, pipes: 2,
		budgets: []budget{{locks: 2, cuts: 1, cancels: 1, releases: 1}, {locks: 2, releases: 2}},
	},
}

// TestSearch goes through every order of everything that can happen within the
// scopes: what programs do, every message early and late, cuts, reconnections,
// and time.
func TestSearch(t *testing.T) {
	all, limit := append(append(restartScopes, scopes...), valueScopes...), 5*time.Minute
	if *full {
		all = append(all, wideValueScopes...)
		all, limit = append(all, wideScopes...), 12*time.Hour
	}
	old := debug.SetGCPercent(400) // copies are short-lived
	t.Cleanup(func() { debug.SetGCPercent(old) })
	for _, sc := range all {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			if underRace {
				sc.ticks = min(sc.ticks, 1)
			}
			s := newSearch(sc, serverFaults{}, clientFaults{})
			began := time.Now()
			s.until = began.Add(limit)
			err := s.run()
			t.Logf("%d states, %d steps, %d deep, %v", len(s.seen), s.steps, s.deepest, time.Since(began).Round(time.Millisecond))
			if err != nil {
				t.Fatalf("%v\nafter %v", err, s.path)
			}
		})
	}
}

// TestSearchFindsPlantedBugs makes sure that the search is not blind: of the bugs
// that fit into its scopes it finds each.
func TestSearchFindsPlantedBugs(t *testing.T) {
	if underRace {
		t.Log("only the simulation looks for planted bugs under the race detector")
		return
	}
	for _, c := range []struct {
		bug  string
		in   scope
		wide bool // it takes long: with -full only
	}{
		{"no sync", scopes[0], false},
		{"stale connection wins", scopes[3], false},
		{"lease counted from receipt", scopes[0], false},
		{"unanswered requests forgotten", scopes[0], true},
		{"delayed hello displaces its own client", scopes[4], false},
		{"cancel lost", scopes[3], false},
		{"grant to nobody kept", scopes[3], false},
		{"sync drops nothing", scopes[3], false},
		{"sync before all holds are named", scopes[5], false},
		{"release resurrected", scopes[0], true},
		{"beat counted before n", scopes[1], true},
		{"lease answered again keeps its old end", scopes[0], true},
	} {
		if c.wide && !*full {
			continue
		}
		t.Run(c.bug, func(t *testing.T) {
			i := slices.IndexFunc(plantedBugs, func(p planted) bool { return p.name == c.bug })
			s := newSearch(c.in, plantedBugs[i].server, plantedBugs[i].client)
			began := time.Now()
			s.until = began.Add(2 * time.Minute)
			err := s.run()
			if err == nil || errors.Is(err, errTooLong) {
				t.Fatalf("not found in %d states: %v", len(s.seen), err)
			}
			t.Logf("found after %d states, %v: %v\nby %v", len(s.seen), time.Since(began).Round(time.Millisecond), err, s.path)
		})
	}
}
