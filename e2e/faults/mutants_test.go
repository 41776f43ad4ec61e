//go:build unix

package faults

// Campaigns by their names, as mutants run them.
const (
	killed    = "TestKillHolders"
	stopped   = "TestStopHolders"
	silenced  = "TestSilenceHolders"
	cut       = "TestCutClients"
	givenUp   = "TestGiveUp"
	restarted = "TestKillServer"
	forgotten = "TestKillServerWithoutDirectory"
	damaged   = "TestDamagedDirectory"
	paused    = "TestPauseServer"
	failed    = "TestFailingDisk"
)

// slowClock is a client whose clock loses nine seconds in a thousand, which is
// within what the rules allow for.
var slowClock = []edit{{"locker/clock.go", "time.Since(start) +", "time.Since(start)*991/1000 +"}}

// backwards is a wall clock that runs backwards, over restarts too.
var backwards = []edit{{"internal/datadir/dir.go", "o.Wall = time.Now\n", "o.Wall = func() time.Time { return time.Unix(0, 4e18-time.Now().UnixNano()) }\n"}}

// claimsAll is a client that claims what it has just released. The server has to
// refuse that.
var claimsAll = []edit{{"internal/session/claim.go", "		c.send(now, call)\n	}\n", `		c.send(now, call)
		if call.Request.Command == codec.Release {
			claim := &Call{own: true, Request: codec.Request{Key: slices.Clone(call.Request.Key), Token: call.Request.Token, TTL: 10 * time.Second}}
			c.makeClaim(nil, &claim.Request)
			c.Do(now, claim)
		}
	}
`}}

// manyCuts are enough for some to hit holders: the keys are mostly waited for.
var manyCuts = []string{"-disturbances", "400", "-limit", "60s"}

// manyRestarts are enough for a release to be on its way at one of them.
var manyRestarts = []string{"-restarts", "6", "-restart-ms", "1000", "-limit", "40s"}

// mutants are bugs that lock services have had, and must not have here.
var mutants = []mutant{
	{
		name:  "nothing is exclusive",
		bug:   []edit{{"internal/table/entry.go", "return weight <= e.limit-e.used", "return weight <= e.limit"}},
		run:   killed,
		kinds: []string{"overlap"},
	},
	{
		name:  "deadline from receipt",
		bug:   []edit{{"internal/session/lines.go", "if c.faults.fromReceipt {", "if true {"}},
		run:   silenced,
		kinds: []string{"overlap"},
	},
	{
		name: "no confirmation after a wait",
		bug: []edit{{"locker/acquirer.go",
			"if ttl > 0 && deadlineOf(stamp, ttl)-now < ttl/2 {",
			"if stamp = now; false {"}},
		run:   stopped + "/base",
		args:  []string{"-stops", "80", "-stop-keys", "20"},
		kinds: []string{"overlap"},
	},
	{
		name:  "no margin for drift",
		world: slowClock,
		bug:   []edit{{"locker/hold.go", "return later(stamp, ttl-ttl/driftDivisor-quantum)", "return later(stamp, ttl)"}},
		run:   silenced,
		args:  []string{"-silence-ttl", "4s"},
		kinds: []string{"overlap"},
	},
	{
		name:  "Check trusts that a timer would have fired",
		bug:   []edit{{"locker/lease.go", "well := l.state == held && ", "well := l.state == held || "}},
		run:   stopped,
		kinds: []string{"overlap", "woken"},
	},
	{
		name:  "leases run out early",
		bug:   []edit{{"internal/table/lease.go", "return max(l.deadline, after(l.owner.beat, l.ttl))", "return max(l.deadline, after(l.owner.beat, l.ttl)) - l.ttl/5"}},
		run:   silenced,
		kinds: []string{"overlap"},
	},
	{
		name:  "leases of the dead never run out",
		bug:   []edit{{"internal/table/lease.go", "return max(l.deadline, after(l.owner.beat, l.ttl))", "return max(l.deadline, after(l.owner.beat, l.ttl)) + 40*time.Second"}},
		run:   killed,
		kinds: []string{"takeover", "residue", "failure"},
	},
	{
		name: "release by key alone",
		bug: []edit{{"internal/table/hold.go",
			"	if l == nil {\n		return t.releasePast(k, key, tok)",
			"	if e := t.keys[k].get(key); l == nil && e != nil {\n		l = e.holders.first\n	}\n	if l == nil {\n		return t.releasePast(k, key, tok)"}},
		run:   stopped,
		kinds: []string{"overlap"},
	},
	{
		name:  "cancel by plain close",
		bug:   []edit{{"dflockd/own.go", "	if !ok {\n		c.end(errCanceled)", "	if ok || !ok {\n		c.end(errCanceled)"}},
		run:   givenUp,
		kinds: []string{"leak"},
	},
	{
		name:  "a grant that nobody waits for any more is forgotten",
		bug:   []edit{{"internal/session/lines.go", "if c.faults.keepGrants {", "if true {"}},
		run:   givenUp,
		kinds: []string{"leak"},
	},
	{
		name:  "renewal without TTL",
		bug:   []edit{{"codec/request.go", "	case Renew:\n		if r.TTL > 0 {", "	case Renew:\n		if r.TTL > 0 && r.Command != Renew {"}},
		run:   silenced,
		kinds: []string{"failure"},
	},
	{
		name:  "the end of a connection frees what its session holds",
		bug:   []edit{{"internal/session/server.go", "if x.releaseOnClose {", "if true {"}},
		run:   cut,
		args:  manyCuts,
		kinds: []string{"overlap"},
	},
	{
		name:  "the end of a connection is taken for a proof of death",
		bug:   []edit{{"server/session.go", "	f.locks.deaths.disconnected(", "	if f.watch != nil {\n		f.locks.sessions.Died(now, f.id)\n	}\n	f.locks.deaths.disconnected("}},
		run:   cut,
		args:  manyCuts,
		kinds: []string{"overlap"},
	},
	{
		name:  "fences do not grow",
		bug:   []edit{{"internal/table/acquire.go", "	t.fence += l.mac\n", ""}},
		run:   killed,
		kinds: []string{"fence"},
	},
	{
		name:  "the guard accepts every fence",
		bug:   []edit{{"guard/errors.go", "if fence < seen {", "if false {"}},
		run:   stopped,
		kinds: []string{"stale"},
	},
	{
		name:  "a key that is released is not passed on",
		bug:   []edit{{"internal/table/acquire.go", "l.owner.leases.remove(byOwner, l)\n	t.settle(l.entry)", "l.owner.leases.remove(byOwner, l)\n	if l.entry.waiting == 0 {\n		t.settle(l.entry)\n	}"}},
		run:   killed,
		kinds: []string{"takeover", "failure"},
	},
	{
		name:  "no grace after a restart",
		bug:   []edit{{"server/durable.go", "	if d.found.Grace > 0 {", "	if false {"}},
		run:   restarted,
		kinds: []string{"grace"},
	},
	{
		name:  "a grace of less than the TTL",
		bug:   []edit{{"server/durable.go", "c.GraceEnd = now + d.found.Grace", "c.GraceEnd = now + d.found.Grace*3/4"}},
		run:   restarted,
		kinds: []string{"grace"},
	},
	{
		name:  "fences from the clock alone",
		world: backwards,
		bug:   []edit{{"internal/datadir/ledger.go", "	if lim.faults.clockAlone {", "	if true {"}},
		run:   restarted,
		kinds: []string{"fence"},
	},
	{
		name:  "fences begin anew without a data directory",
		bug:   []edit{{"server/locks.go", "FirstFence: firstFence(origin),", "FirstFence: firstFence(origin) - firstFence(origin) + 1,"}},
		run:   forgotten,
		kinds: []string{"fence"},
	},
	{
		name: "what is damaged is taken for empty",
		bug: []edit{
			{"internal/datadir/store.go", "	if files.firstUse(st.faults) {", "	if files.slots == [2]*slot{} || files.firstUse(st.faults) {"},
			{"internal/datadir/valuerecord.go", "	switch {\n	case h.id != to:\n", "	switch {\n	case h.id != to:\n		*h = valuesHead{id: to}\n		return nil\n	case h.id != to:\n"},
		},
		run:   damaged,
		kinds: []string{"damage"},
	},
	{
		name:  "checksums are ignored",
		bug:   []edit{{"internal/datadir/encode.go", "[sha256.Size]byte(b[body:]) && !unchecked {", "[sha256.Size]byte(b[body:]) && false {"}},
		run:   damaged,
		kinds: []string{"damage"},
	},
	{
		name:  "a pause of the server is time",
		bug:   []edit{{"server/locks.go", "gap > longestTick && k.armed != 0 {", "gap > longestTick && false {"}},
		run:   paused,
		kinds: []string{"paused"},
	},
	{
		name:  "a resume keeps what is not named",
		bug:   []edit{{"internal/session/resume.go", "	if !s.faults.noDrop {", "	if false {"}},
		run:   givenUp + "/session_mode,_cut",
		args:  []string{"-give-ups", "4000"},
		kinds: []string{"leak"},
	},
	{
		name:  "what was released is claimed, and the release forgotten",
		bug:   []edit{{"internal/session/claim.go", "	if c.faults.claimReleased {", "	if true {"}},
		run:   restarted,
		args:  manyRestarts,
		kinds: []string{"takeover"},
	},
	{
		name:  "what was released in the grace can be claimed",
		world: claimsAll,
		bug:   []edit{{"internal/table/restart.go", "	if t.faults.noTombstone {", "	if true {"}},
		run:   restarted,
		args:  manyRestarts,
		kinds: []string{"takeover"},
	},
	{
		name:  "what the disk says is ignored",
		bug:   []edit{{"internal/datadir/dir.go", "	if err := d.store.update(s); err != nil {\n		return false, err", "	if err := d.store.update(s); err != nil && wall < 0 {\n		return false, err"}},
		run:   failed + "/writes",
		kinds: []string{"ceiling"},
	},
	{
		name:  "syncs that fail are ignored",
		world: failingSyncs,
		bug:   []edit{{"internal/datadir/store.go", "	if err != nil && st.faults.syncAgain {\n		err = f.Sync()", "	if err != nil {\n		err = nil"}},
		run:   failed + "/syncs",
		args:  []string{"-planted"},
		kinds: []string{"silent"},
	},
	{
		name: "fences are given beyond what was reserved",
		bug: []edit{
			{"internal/table/restart.go", "	if fences > t.ceiling-min(t.fence, t.ceiling) {", "	if false {"},
			{"server/durable.go", "	if fences <= 0 || last <= d.ceiling {", "	if fences <= 0 || last >= 0 {"},
		},
		run:   failed + "/writes",
		kinds: []string{"ceiling"},
	},
}
