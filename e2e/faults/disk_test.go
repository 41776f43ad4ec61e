//go:build unix

package faults

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/e2e/internal/witness"
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/datadir"
	"github.com/distributed-go/distributed/internal/figures"
)

var (
	diskRounds = size.New("disk-rounds", 1, 10, "times that the disk of a data directory fails, in each way that it can")
	planted    = flag.Bool("planted", false, "this program was built so that syncs can be made to fail")
)

// TestFailingDisk makes the disk fail on which the data directory is, under load:
// no byte more can be written, there is no space left, or syncs fail. The server
// says so, goes on with what it has promised, gives no more fences than it had
// reserved and takes no value that it cannot write. Then it is killed, and once the
// disk is well again the next one knows of everything that was promised.
func TestFailingDisk(t *testing.T) {
	mostlyWaits(t)
	table := figures.NewTable("disk", "fails by", "rounds", "holds", "long leases written before it failed", "refused", "starts refused meanwhile", "live holds that kept their fences", "lost to slow starts", "values put or removed", "big ones while it failed", "not stored", "violations")
	for _, c := range []struct {
		name, by string
		medium   func(*testing.T) medium
	}{
		{"writes", "RLIMIT_FSIZE", limited},
		{"space", "a tmpfs that is full", tmpfs},
		{"writeback", "ext4 on a loop device without space", loop},
		{"syncs", "planted errors", plantedSyncs},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "syncs" && !*planted {
				inPlanted(t)
				return
			}
			f := &failingDisk{medium: c.medium(t)}
			v := f.run(t)
			table.Row(c.name, c.by, diskRounds.Get(), v.count, f.written, len(f.refused), f.unstarted, f.kept, f.excused, f.putters.answered, f.stored, f.putters.undecided, len(v.found))
			campaign.Report(t, v.found)
		})
	}
	campaign.Show(t, table)
}

// A failingDisk is the campaign on one medium.
type failingDisk struct {
	*restarting
	medium
	live            []*player
	long            []longLease
	refused         []string    // keys of long leases that the server did not grant
	over            []longLease // released when that could not be written down
	highest         uint64      // fence that was ever given
	found           []campaign.Violation
	written         int // long leases that a failing disk still took
	stored          int // big values that a failing disk still took
	unstarted, kept int
}

// A longLease is one that has a record.
type longLease struct{ key, token string }

const (
	// longSeconds is the TTL of leases that have records: longer than any grace.
	longSeconds = 60
	// manyFences is half of what is reserved at a time.
	manyFences = 1 << 19
)

func (f *failingDisk) run(t *testing.T) verdict {
	t.Helper()
	f.config.MaxGrace = restartTTL()
	f.restarting = &restarting{rig: newRig(t, f.config)}
	f.live = f.hold(liveHolds.Get())
	wants := f.fences(f.live)
	f.putters = startPutters(f.rig)
	for i := range diskRounds.Get() {
		assert.Sure(t, f.round(i))
		got := f.fences(f.live)
		f.kept += f.compare(wants, got)
		wants = got
	}
	values := f.putters.stop()
	each(f.rig, f.live, func(p *player) error {
		f.stop(p)
		return nil
	})
	v := f.judge(restartTTL() + 10*time.Second)
	v.found = slices.Concat(v.found, f.found, f.lost, values)
	return v
}

func (f *failingDisk) wrong(kind, format string, args ...any) {
	f.found = append(f.found, campaign.Violationf(kind, format, args...))
}

// round has the disk fail once.
func (f *failingDisk) round(n int) error {
	fighters := f.mustStart(workerArgs{
		URL: urlOf(f.server.Addr, false), TTL: restartTTL(), Keys: keysOf("fight", fightKeys), Lanes: 2 * fightKeys, HoldMax: 5 * time.Millisecond, Store: f.store.Addr(),
	})
	w, err := dialWire(f.ctx, f.server.Addr)
	if err != nil {
		return err
	}
	defer w.Close()
	if err := f.lengthen(w, fmt.Sprintf("before-%d", n), 3); err != nil {
		return err
	}
	if err := f.fail(f.server); err != nil {
		return err
	}
	if err := f.provokeValues(w, n); err != nil {
		return err
	}
	if err := f.provoke(w, n); err != nil {
		return err
	}
	if err := f.serves(w, n); err != nil {
		return err
	}
	f.stop(fighters)
	if err := f.exhaust(n); err != nil {
		return err
	}
	return f.recover()
}

// lengthen takes leases that have records.
func (f *failingDisk) lengthen(w *wire, prefix string, n int) error {
	for _, key := range keysOf(prefix, n) {
		token, err := w.grant(fmt.Sprintf("l|%s|0 %d", key, longSeconds))
		if err != nil {
			return err
		}
		f.took(token, 1)
		f.long = append(f.long, longLease{key, token})
	}
	return nil
}

// took takes note of a grant of so many fences.
func (f *failingDisk) took(token string, fences uint64) {
	f.highest = max(f.highest, fenceOf(token)+fences-1)
}

// provoke takes leases that have records until one is refused because the disk
// takes no more, and sees whether the server says so.
func (f *failingDisk) provoke(w *wire, n int) error {
	const enough = 300 // of them are more than a page
	for i := 0; ; i++ {
		key := fmt.Sprintf("%s-%d-%d", strings.Repeat("x", 200), n, i)
		words, err := w.do(fmt.Sprintf("l|%s|0 %d", key, longSeconds))
		if err != nil {
			return err
		}
		if words[0] != "ok" {
			f.refused = append(f.refused, key)
			break
		}
		f.written++
		f.took(words[1], 1)
		f.long = append(f.long, longLease{key, words[1]})
		if i == enough {
			f.wrong("silent", "%d leases that need a record each were granted by a server that cannot write", enough)
			break
		}
	}
	return f.admits(w, failedLeases)
}

// provokeValues puts values until one is refused because the disk takes no more,
// and sees whether the server says so, and still has those it took.
func (f *failingDisk) provokeValues(w *wire, n int) error {
	const enough = 20 // of them need more space than what is free in a file
	put, err := f.putters.provoke(n, enough)
	if err != nil {
		return err
	}
	if f.stored += put; put == enough {
		f.wrong("silent", "%d values of %d bytes were put at a server that cannot write", put, bigValue)
	}
	if err := f.admits(w, failedValues); err != nil {
		return err
	}
	return f.putters.readAll(f.server)
}

// admits sees whether a server says that its disk has failed for something.
func (f *failingDisk) admits(w *wire, what string) error {
	var st serverStatus
	if err := f.server.Call(f.ctx, "status", struct{}{}, &st); err != nil {
		return err
	}
	stats, err := w.do("stats|_|_")
	if err != nil {
		return err
	}
	want := serverStatus{State: "failed", Health: 200, Ready: 503, Failed: what}
	if what == failedValues && st.Failed == failedLeases {
		want.Failed = st.Failed // they failed by themselves meanwhile, and come first
	}
	if st != want || !strings.Contains(strings.Join(stats, " "), `"state":"failed"`) {
		f.wrong("silent", "the status of a server whose disk has failed for %s is %+v, want %+v, and its stats begin with %.200q", what, st, want, stats)
	}
	return nil
}

// serves sees that the server goes on with what it has promised: who fights is
// granted, leases are renewed for no longer than is written down, and released.
func (f *failingDisk) serves(w *wire, n int) error {
	if after, ok := f.awaitGrants(keysOf("fight", fightKeys), witness.Monotonic()); !ok {
		f.wrong("takeover", "%d of %d keys were not granted by a server whose disk has failed", fightKeys-len(after), fightKeys)
	}
	l := f.long[0]
	words, err := w.do(fmt.Sprintf("n|%s|%s %d", l.key, l.token, 2*longSeconds))
	if err != nil {
		return err
	}
	if words[0] != "ok" || words[1] != fmt.Sprint(longSeconds) {
		f.wrong("promise", "a renewal of %d s for twice as long was answered %q", longSeconds, words)
	}
	last := len(f.long) - 1
	words, err = w.do("r|" + f.long[last].key + "|" + f.long[last].token)
	if err == nil && words[0] != "ok" {
		f.wrong("promise", "a release was answered %q", words)
	}
	f.over, f.long = append(f.over, f.long[last]), f.long[:last]
	return err
}

// exhaust takes fences until there are no more.
func (f *failingDisk) exhaust(n int) error {
	w, err := dialWire(f.ctx, f.server.Addr)
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.do("hello|_|1 exhaust"); err != nil {
		return err
	}
	const enough = 10
	for i := range enough {
		words, err := w.do(fmt.Sprintf("%d l|many-%d-%d|0 1 fences=%d", i+1, n, i, manyFences))
		if err != nil {
			return err
		}
		if words[1] != "ok" {
			return nil
		}
		f.took(words[2], manyFences)
	}
	f.wrong("ceiling", "%d fences were given by a server that cannot reserve any", enough*manyFences)
	return nil
}

// recover kills the server, has the next one find the disk as it is and another
// one find it healed, and sees what they know.
func (f *failingDisk) recover() error {
	gone, copied := witness.Monotonic(), filepath.Join(f.t.TempDir(), "copy")
	f.killServer()
	if err := os.CopyFS(copied, os.DirFS(f.config.DataDir)); err != nil {
		return err
	}
	if f.stays {
		if s, err := launchServer(f.ctx, "", f.server.Addr, f.config); err == nil {
			s.Kill()
		} else {
			f.unstarted++
		}
	}
	if err := f.heal(); err != nil {
		return err
	}
	f.revive(gone)
	if on := ceilingOf(f.t, copied); on < f.highest {
		f.wrong("ceiling", "fence %d was given, and the disk said %d", f.highest, on)
	}
	time.Sleep(time.Duration(f.graceEnds(f.server.serverReady)-witness.Monotonic()) + restartTTL()/5) // real time: the grace of another process
	w, err := dialWire(f.ctx, f.server.Addr)
	if err != nil {
		return err
	}
	defer w.Close()
	// It waits, because a server that a busy machine paused makes its grace longer.
	token, err := w.grant("l|fresh|10 1")
	if err != nil {
		return err
	}
	if fence := fenceOf(token); fence <= f.highest {
		f.wrong("fence", "after a restart the fence is %d, and was %d", fence, f.highest)
	}
	f.took(token, 1)
	if err := f.putters.unprovoke(); err != nil {
		return err
	}
	return f.still(w)
}

// still sees that all long leases are what they were, and ends them.
func (f *failingDisk) still(w *wire) error {
	for _, l := range f.long {
		for _, step := range []struct{ request, want string }{
			{"l|" + l.key + "|0 1", "timeout"},
			{fmt.Sprintf("n|%s|%s %d", l.key, l.token, longSeconds), "ok"},
			{"r|" + l.key + "|" + l.token, "ok"},
		} {
			words, err := w.do(step.request)
			if err != nil {
				return err
			}
			if words[0] != step.want {
				f.wrong("promise", "after a restart %.10q of a lease of %d s was answered %q, want %s", step.request, longSeconds, slices.Compact(words), step.want)
			}
		}
	}
	for _, l := range f.over { // the next server may know them, whose keys they block
		if _, err := w.do("r|" + l.key + "|" + l.token); err != nil {
			return err
		}
	}
	for _, key := range f.refused { // what was refused may have been written all the same
		if _, err := w.do("force|" + key + "|lock"); err != nil {
			return err
		}
	}
	f.long, f.over = nil, nil
	return nil
}

// ceilingOf returns which fences a data directory, which nobody uses, says may have
// been given.
func ceilingOf(t *testing.T, dir string) uint64 {
	t.Helper()
	d, err := datadir.Open(dir, datadir.Options{MustExist: true})
	assert.Sure(t, err)
	assert.Sure(t, d.Close())
	return d.Found().Ceiling
}
