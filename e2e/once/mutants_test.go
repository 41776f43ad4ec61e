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
	everyPoint    = []string{"-points", "20", "-kills", "10", "-plain", "100"}
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
		name:  "the mark is written before the function has returned",
		bug:   []edit{{"once/cell.go", leadBefore, markFirst}},
		run:   runnerKilled,
		args:  everyPoint,
		kinds: []string{"early", "commit"},
	},
	{
		name:  "an error is remembered as done",
		bug:   []edit{{"once/cell.go", leadBefore, markFailures}},
		run:   runnerFails,
		kinds: []string{"cached"},
	},
	{
		name:  "a mark that was refused counts",
		bug:   []edit{{"once/cell.go", "	case !open:\n		return nil, c.fail(err)\n", "	case !open:\n		return r, nil\n"}},
		run:   runnerLate,
		kinds: []string{"late"},
	},
	{
		name:  "who comes to the lock does not look at the mark again",
		bug:   []edit{{"once/cell.go", "c.source.wait(ctx, c.acquirer, c.fresh())", "c.source.wait(ctx, c.acquirer, 0)"}},
		run:   runnerKilled,
		args:  everyPoint,
		kinds: []string{"again", "twice", "starts"},
	},
	{
		name:  "a panic keeps the lease",
		bug:   []edit{{"locker/release.go", releaseAlways, "		if p := recover(); p != nil {\n			panic(p)\n		}\n" + releaseAlways}},
		run:   runnerFails,
		kinds: []string{"stuck"},
	},
	{
		name:  "the death of the runner is not noticed",
		bug:   []edit{{"internal/session/server.go", "	x.died = true\n	if x.link == nil {", "	if x.died {"}},
		run:   runnerKilled,
		args:  everyPoint,
		kinds: []string{"stuck"},
	},
	{
		name:  "the server takes a mark without the token of the holder",
		bug:   []edit{{"internal/session/values.go", "if err == table.ErrNotHeld && s.faults.oldToken {", "if err == table.ErrNotHeld {"}},
		run:   runnerLate,
		kinds: []string{"twice", "late"},
	},
	{
		name:  "the mark is answered before it is on the disk",
		bug:   []edit{{"internal/session/values.go", "	if s.faults.okEarly {", "	if true {"}},
		run:   serverKilled,
		args:  everyRestart,
		kinds: []string{"early", "again", "twice", "starts", "commit", "unmarked"},
	},
	{
		name:  "marks are forgotten in a restart",
		bug:   []edit{{"server/values.go", "		t.RestoreValue(now, v.Key, value)\n", "		_ = value\n"}},
		run:   serverKilled,
		args:  everyRestart,
		kinds: []string{"early", "again", "twice", "starts", "unmarked"},
	},
	{
		name:  "who joins takes an older result",
		bug:   []edit{{"once/flight.go", "g.source.wait(f.ctx, f.acquirer, fresh)", "g.source.wait(f.ctx, f.acquirer, fresh+time.Minute)"}},
		run:   grouped,
		args:  manyCalls,
		kinds: []string{"old", "landed"},
	},
	{
		name:  "who comes after the function has returned joins, as in x/sync",
		bug:   []edit{{"once/flight.go", "	f.returned, f.closed = true, true\n", "	f.returned = true\n"}},
		run:   grouped,
		args:  manyCalls,
		kinds: []string{"old"},
	},
	{
		name:  "a result answers the first who waits only",
		bug:   []edit{{"internal/table/values.go", "		if l.marks&joins != 0 {", "		if l.marks&joins != 0 && carrier == nil {"}},
		run:   handedOut,
		args:  manySessions,
		kinds: []string{"frames", "failure"},
	},
}
