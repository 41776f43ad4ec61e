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
var slowClock = []edit{{"locker/clock.go", "return d +", "return d*991/1000 +"}}

// backwards is a wall clock that runs backwards, over restarts too.
var backwards = []edit{{"internal/datadir/options.go", "o.Wall = time.Now\n", "o.Wall = func() time.Time { return time.Unix(0, 4e18-time.Now().UnixNano()) }\n"}}

// claimsAll is a client that claims what it has just released. The server has to
// refuse that.
var claimsAll = []edit{{"internal/session/claim.go", "		c.sendAgain(now, call)\n	}\n", `		c.sendAgain(now, call)
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
		Name:  "nothing is exclusive",
		Bug:   []edit{{"internal/table/entry.go", "return weight <= e.limit-e.used", "return weight <= e.limit"}},
		Run:   killed,
		Kinds: []string{"overlap"},
	},
	{
		Name:  "deadline from receipt",
		Bug:   []edit{{"internal/session/lines.go", "if c.faults.fromReceipt {", "if true {"}},
		Run:   silenced,
		Kinds: []string{"overlap"},
	},
	{
		Name: "no confirmation after a wait",
		Bug: []edit{{"locker/acquirer.go",
			"if ttl > 0 && deadlineOf(stamp, ttl)-now < ttl/2 {",
			"if stamp = now; false {"}},
		Run:   stopped + "/base_protocol",
		Args:  []string{"-stops", "80", "-stop-keys", "20"},
		Kinds: []string{"overlap"},
	},
	{
		Name:  "no margin for drift",
		World: slowClock,
		Bug:   []edit{{"locker/hold.go", "return later(stamp, ttl-ttl/driftDivisor-quantum)", "return later(stamp, ttl)"}},
		Run:   silenced,
		Args:  []string{"-silence-ttl", "4s"},
		Kinds: []string{"overlap"},
	},
	{
		Name:  "Check trusts that a timer would have fired",
		Bug:   []edit{{"locker/lease.go", "well := l.state == held && ", "well := l.state == held || "}},
		Run:   stopped,
		Kinds: []string{"overlap", "woken"},
	},
	{
		Name:  "leases run out early",
		Bug:   []edit{{"internal/table/lease.go", "return max(l.deadline, after(l.owner.beat, l.ttl))", "return max(l.deadline, after(l.owner.beat, l.ttl)) - l.ttl/5"}},
		Run:   silenced,
		Kinds: []string{"overlap"},
	},
	{
		Name:  "leases of the dead never run out",
		Bug:   []edit{{"internal/table/lease.go", "return max(l.deadline, after(l.owner.beat, l.ttl))", "return max(l.deadline, after(l.owner.beat, l.ttl)) + 40*time.Second"}},
		Run:   killed,
		Kinds: []string{"takeover", "residue", "failure"},
	},
	{
		Name: "release by key alone",
		Bug: []edit{{"internal/table/hold.go",
			"	if l == nil {\n		return t.releasePast(k, key, tok)",
			"	if e := t.keys[k].get(key); l == nil && e != nil {\n		l = e.holders.first\n	}\n	if l == nil {\n		return t.releasePast(k, key, tok)"}},
		Run:   stopped,
		Kinds: []string{"overlap"},
	},
	{
		Name:  "cancel by plain close",
		Bug:   []edit{{"dflockd/own.go", "	if !ok {\n		c.end(errCanceled)", "	if ok || !ok {\n		c.end(errCanceled)"}},
		Run:   givenUp,
		Kinds: []string{"leak"},
	},
	{
		Name:  "a grant that nobody waits for any more is forgotten",
		Bug:   []edit{{"internal/session/lines.go", "if c.faults.keepGrants {", "if true {"}},
		Run:   givenUp,
		Kinds: []string{"leak"},
	},
	{
		Name:  "renewal without TTL",
		Bug:   []edit{{"codec/request.go", "	case Renew:\n		if r.TTL > 0 {", "	case Renew:\n		if r.TTL > 0 && r.Command != Renew {"}},
		Run:   silenced,
		Kinds: []string{"failure"},
	},
	{
		Name:  "the end of a connection frees what its session holds",
		Bug:   []edit{{"internal/session/server.go", "if x.releaseOnClose {", "if true {"}},
		Run:   cut,
		Args:  manyCuts,
		Kinds: []string{"overlap"},
	},
	{
		Name:  "the end of a connection is taken for a proof of death",
		Bug:   []edit{{"server/session.go", "	f.locks.deaths.disconnected(", "	if f.watch != nil {\n		f.locks.sessions.Died(now, f.id)\n	}\n	f.locks.deaths.disconnected("}},
		Run:   cut,
		Args:  manyCuts,
		Kinds: []string{"overlap"},
	},
	{
		Name:  "fences do not grow",
		Bug:   []edit{{"internal/table/acquire.go", "	t.fence += l.mac\n", ""}},
		Run:   killed,
		Kinds: []string{"fence"},
	},
	{
		Name:  "the guard accepts every fence",
		Bug:   []edit{{"guard/errors.go", "if fence < seen {", "if false {"}},
		Run:   stopped,
		Kinds: []string{"stale"},
	},
	{
		Name:  "a key that is released is not passed on",
		Bug:   []edit{{"internal/table/acquire.go", "l.owner.leases.remove(byOwner, l)\n	t.settle(l.entry)", "l.owner.leases.remove(byOwner, l)\n	if l.entry.waiting == 0 {\n		t.settle(l.entry)\n	}"}},
		Run:   killed,
		Kinds: []string{"takeover", "failure"},
	},
	{
		Name:  "no grace after a restart",
		Bug:   []edit{{"server/durable.go", "	if d.found.Grace > 0 {", "	if false {"}},
		Run:   restarted,
		Kinds: []string{"grace"},
	},
	{
		Name:  "a grace of less than the TTL",
		Bug:   []edit{{"server/durable.go", "c.GraceEnd = now + d.found.Grace", "c.GraceEnd = now + d.found.Grace*3/4"}},
		Run:   restarted,
		Kinds: []string{"grace"},
	},
	{
		Name:  "fences from the clock alone",
		World: backwards,
		Bug:   []edit{{"internal/datadir/ledger.go", "	if lim.faults.clockAlone {", "	if true {"}},
		Run:   restarted,
		Kinds: []string{"fence"},
	},
	{
		Name:  "fences begin anew without a data directory",
		Bug:   []edit{{"server/locks.go", "FirstFence: firstFence(origin),", "FirstFence: firstFence(origin) - firstFence(origin) + 1,"}},
		Run:   forgotten,
		Kinds: []string{"fence"},
	},
	{
		Name: "what is damaged is taken for empty",
		Bug: []edit{
			{"internal/datadir/store.go", "	if files.firstUse(st.faults) {", "	if files.slots == [2]*slot{} || files.firstUse(st.faults) {"},
			{"internal/datadir/valuerecord.go", "	switch {\n	case h.id != to:\n", "	switch {\n	case h.id != to:\n		*h = valuesHead{id: to}\n		return nil\n	case h.id != to:\n"},
		},
		Run:   damaged + "/slots",
		Kinds: []string{"damage"},
	},
	{
		Name:  "checksums are ignored",
		Bug:   []edit{{"internal/datadir/encode.go", "[sha256.Size]byte(b[body:]) && !unchecked {", "[sha256.Size]byte(b[body:]) && false {"}},
		Run:   damaged + "/slots",
		Kinds: []string{"damage"},
	},
	{
		Name:  "a pause of the server is time",
		Bug:   []edit{{"server/locks.go", "gap > longestTick && k.armed != 0 {", "gap > longestTick && false {"}},
		Run:   paused,
		Kinds: []string{"paused"},
	},
	{
		Name:  "a resume keeps what is not named",
		Bug:   []edit{{"internal/session/resume.go", "	if !s.faults.noDrop {", "	if false {"}},
		Run:   givenUp + "/session_mode,_cut_off",
		Args:  []string{"-give-ups", "4000"},
		Kinds: []string{"leak"},
	},
	{
		Name:  "what was released is claimed, and the release forgotten",
		Bug:   []edit{{"internal/session/claim.go", "	if c.faults.claimReleased {", "	if true {"}},
		Run:   restarted,
		Args:  manyRestarts,
		Kinds: []string{"takeover"},
	},
	{
		Name:  "what was released in the grace can be claimed",
		World: claimsAll,
		Bug:   []edit{{"internal/table/restart.go", "	if t.faults.noTombstone {", "	if true {"}},
		Run:   restarted,
		Args:  manyRestarts,
		Kinds: []string{"takeover"},
	},
	{
		Name:  "what the disk says is ignored",
		Bug:   []edit{{"internal/datadir/dir.go", "	if err := d.store.update(s); err != nil {\n		return false, err", "	if err := d.store.update(s); err != nil && wall < 0 {\n		return false, err"}},
		Run:   failed + "/writes",
		Kinds: []string{"ceiling"},
	},
	{
		Name:  "syncs that fail are ignored",
		World: failingSyncs,
		Bug:   []edit{{"internal/datadir/store.go", "	if err != nil && st.faults.syncAgain {\n		err = f.Sync()", "	if err != nil {\n		err = nil"}},
		Run:   failed + "/syncs",
		Args:  []string{"-planted"},
		Kinds: []string{"silent"},
	},
	{
		Name: "fences are given beyond what was reserved",
		Bug: []edit{
			{"internal/table/restart.go", "	if fences > t.ceiling-min(t.fence, t.ceiling) {", "	if false {"},
			{"server/durable.go", "	if fences <= 0 || last <= d.ceiling {", "	if fences <= 0 || last >= 0 {"},
		},
		Run:   failed + "/writes",
		Kinds: []string{"ceiling"},
	},
	{
		Name:  "a put is answered before it is written",
		Bug:   []edit{{"internal/session/values.go", "	if s.faults.okEarly {", "	if true {"}},
		Run:   failed + "/writes",
		Kinds: []string{"value"},
	},
	{
		Name: "puts count already, and are written with those of the next 20 ms",
		Bug: []edit{
			{"internal/datadir/values.go", "	if w.faults.valuesEarly {", "	if w.changed != nil {\n		go w.changed()"},
			{"internal/datadir/values.go", "	w.mu.Lock()\n	ops, w.pending = ", "	time.Sleep(20 * time.Millisecond)\n	w.mu.Lock()\n	ops, w.pending = "},
		},
		Run:   restarted,
		Args:  manyRestarts,
		Kinds: []string{"value"},
	},
	{
		Name:  "values are not synced",
		World: failingSyncs,
		Bug:   []edit{{"internal/datadir/valuestore.go", "NoSync: vs.faults.noValuesSync,", "NoSync: true,"}},
		Run:   failed + "/syncs",
		Args:  []string{"-planted"},
		Kinds: []string{"silent"},
	},
	{
		Name:  "that no value can be written is not told",
		Bug:   []edit{{"server/status.go", "			st.Err = k.disk.valuesErr()", "			st.Err = nil"}},
		Run:   failed + "/writes",
		Kinds: []string{"silent"},
	},
	{
		Name:  "a removal is not written",
		Bug:   []edit{{"internal/datadir/valuestore.go", "			if op.remove {\n", "			if op.remove {\n				continue\n			}\n			if op.remove {\n"}},
		Run:   restarted,
		Args:  []string{"-restart-ms", "1000"},
		Kinds: []string{"value"},
	},
	{
		Name:  "the checksum over a value is ignored",
		Bug:   []edit{{"internal/datadir/valuerecord.go", "	if s != sumOf(name, b[sumSize:]) && !f.valuesUnchecked {", "	if false {"}},
		Run:   damaged + "/values/values",
		Kinds: []string{"value"},
	},
	{
		Name: "a damaged values.db is taken for empty",
		Bug: []edit{{"internal/datadir/valuestore.go", "	old, err := vs.read(name, slots)\n", `	old, err := vs.read(name, slots)
	if errors.Is(err, ErrDamaged) {
		slots.ValuesTx, err = 0, cmp.Or(os.Remove(vs.path()), fs.ErrNotExist)
	}
`}, {"internal/datadir/valuestore.go", "import (\n", "import (\n	\"cmp\"\n"}},
		Run:   damaged + "/values/cut_off",
		Kinds: []string{"value"},
	},
	{
		Name:  "a missing values.db is taken for the first use",
		Bug:   []edit{{"internal/datadir/valuestore.go", "	case slots.ValuesTx > 0 && !f.missingValues:", "	case false:"}},
		Run:   damaged + "/values/missing",
		Kinds: []string{"value"},
	},
	{
		Name:  "one whole first page of values.db is enough",
		Bug:   []edit{{"internal/datadir/valuepages.go", "	case f.fallBack && (", "	case (f.fallBack || true) && ("}},
		Run:   damaged + "/values/first_pages",
		Kinds: []string{"value"},
	},
	{
		Name: "an older values.db is taken",
		Bug: []edit{
			{"internal/datadir/valuerecord.go", "	case h.tx < slots.ValuesTx && !f.olderValues:", "	case false:"},
			{"internal/datadir/valuerecord.go", "	case h.boot < slots.Boot && !f.olderValues:", "	case false:"},
		},
		Run:   damaged + "/values/older",
		Kinds: []string{"value"},
	},
	{
		Name:  "the values.db of another directory is taken",
		Bug:   []edit{{"internal/datadir/valuerecord.go", "	case h.id != to:", "	case false:"}},
		Run:   damaged + "/values/foreign",
		Kinds: []string{"value"},
	},
}
