//go:build unix

package once

// Campaigns by their names, as mutants run them.
const (
	runnerKilled = "TestKillRunner/proof=true"
	runnerFails  = "TestFailRunner"
	serverKilled = "TestKillServer"
	runnerLate   = "TestLateRunner"
	grouped      = "TestGroup"
	handedOut    = "TestHandOut"
)

var (
	soon          = []string{"-limit", "6s"} // for what gets stuck
	everyPoint    = []string{"-points", "20", "-kills", "10", "-plain", "100", "-limit", "6s"}
	everyRestart  = []string{"-points", "20", "-server-kills", "2"}
	manyCalls     = []string{"-storm", "60"}
	manySessions  = []string{"-sessions", "200"}
	leadBefore    = "		data, err := run(work)\n		if err == nil {\n			done, err = c.commit(ctx, l, data)\n		}\n		return err\n"
	markFirst     = "		var err error\n		if done, err = c.commit(ctx, l, nil); err == nil {\n			_, err = run(work)\n		}\n		return err\n"
	markFailures  = "		data, err := run(work)\n		r, markErr := c.commit(ctx, l, data)\n		if err == nil {\n			done, err = r, markErr\n		}\n		return err\n"
	releaseAlways = "		if e := l.Release(ctx); lost == nil && errors.Is(e, ErrLost) {"
)

// mutants are bugs that whoever builds this by hand may well have, and those of the
// server that would break it.
var mutants = []mutant{
	{
		Name:  "the mark is written before the function has returned",
		Bug:   []edit{{"once/cell.go", leadBefore, markFirst}},
		Run:   runnerKilled,
		Args:  everyPoint,
		Kinds: []string{"early", "commit"},
	},
	{
		Name:  "an error is remembered as done",
		Bug:   []edit{{"once/cell.go", leadBefore, markFailures}},
		Run:   runnerFails,
		Kinds: []string{"cached"},
	},
	{
		Name:  "a mark that was refused counts",
		Bug:   []edit{{"once/cell.go", "	case !open:\n		return nil, c.fail(err)\n", "	case !open:\n		return r, nil\n"}},
		Run:   runnerLate,
		Kinds: []string{"late"},
	},
	{
		Name:  "who comes to the lock does not look at the mark again",
		Bug:   []edit{{"once/cell.go", "c.source.wait(ctx, c.acquirer, c.fresh())", "c.source.wait(ctx, c.acquirer, 0)"}},
		Run:   runnerKilled,
		Args:  everyPoint,
		Kinds: []string{"again", "twice", "starts"},
	},
	{
		Name:  "a panic keeps the lease",
		Bug:   []edit{{"locker/release.go", releaseAlways, "		if p := recover(); p != nil {\n			panic(p)\n		}\n" + releaseAlways}},
		Run:   runnerFails,
		Args:  soon,
		Kinds: []string{"stuck"},
	},
	{
		Name:  "the death of the runner is not noticed",
		Bug:   []edit{{"internal/session/server.go", "	x.died = true\n	if x.link == nil {", "	if x.died {"}},
		Run:   runnerKilled,
		Args:  everyPoint,
		Kinds: []string{"stuck"},
	},
	{
		Name:  "the server takes a mark without the token of the holder",
		Bug:   []edit{{"internal/session/values.go", "if err == table.ErrNotHeld && s.faults.oldToken {", "if err == table.ErrNotHeld {"}},
		Run:   runnerLate,
		Kinds: []string{"twice", "late"},
	},
	{
		Name:  "the mark is answered before it is on the disk",
		Bug:   []edit{{"internal/session/values.go", "	if s.faults.okEarly {", "	if true {"}},
		Run:   serverKilled,
		Args:  everyRestart,
		Kinds: []string{"early", "again", "twice", "starts", "commit", "unmarked"},
	},
	{
		Name:  "marks are forgotten in a restart",
		Bug:   []edit{{"server/values.go", "		t.RestoreValue(now, v.Key, value)\n", "		_ = value\n"}},
		Run:   serverKilled,
		Args:  everyRestart,
		Kinds: []string{"early", "again", "twice", "starts", "unmarked"},
	},
	{
		Name:  "who joins takes an older result",
		Bug:   []edit{{"once/flight.go", "g.source.wait(f.ctx, f.acquirer, fresh)", "g.source.wait(f.ctx, f.acquirer, fresh+50*time.Millisecond)"}},
		Run:   grouped,
		Args:  manyCalls,
		Kinds: []string{"old", "landed"},
	},
	{
		Name:  "who comes after the function has returned joins, as in x/sync",
		Bug:   []edit{{"once/flight.go", "	f.returned, f.closed = true, true\n", "	f.returned = true\n"}},
		Run:   grouped,
		Args:  manyCalls,
		Kinds: []string{"old"},
	},
	{
		Name:  "a result answers the first who waits only",
		Bug:   []edit{{"internal/table/values.go", "		if l.marks&joins != 0 {", "		if l.marks&joins != 0 && carrier == nil {"}},
		Run:   handedOut,
		Args:  manySessions,
		Kinds: []string{"frames", "failure"},
	},
}
