//go:build unix

package faults

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/figures"
)

var flips = size.New("flips", 8, 100, "bits of values.db to flip at random, besides those that are chosen")

// TestDamagedDirectory flips bits in the files of a directory, and cuts off,
// removes and replaces values.db. With one slot whole the server goes on, and fences
// grow; with none it does not start. It has all values that were put, or does not
// start and says why.
func TestDamagedDirectory(t *testing.T) {
	mostlyWaits(t)
	t.Run("slots", damageSlots)
	t.Run("values", damageValues)
}

func damageSlots(t *testing.T) {
	config := serverConfig{DataDir: filepath.Join(t.TempDir(), "data"), MaxGrace: time.Second}
	var last uint64
	for _, damaged := range [][]string{nil, {"state-a"}, {"state-b"}, {"state-a", "state-b"}} {
		for _, name := range damaged {
			flip(t, filepath.Join(config.DataDir, name))
		}
		s, err := launchServer(t.Context(), "", "127.0.0.1:0", config)
		if len(damaged) == 2 {
			if err == nil {
				s.Kill()
				t.Error(campaign.Violationf("damage", "a server started with both of its slots damaged"))
			}
			return
		}
		if err != nil {
			t.Error(campaign.Violationf("damage", "with %q damaged, and one slot whole, the server does not start: %v", damaged, err))
			return
		}
		fence := grantOf(t, s)
		if fence <= last {
			t.Error(campaign.Violationf("damage", "after %q was damaged the fence is %d, and was %d", damaged, fence, last))
		}
		last = fence
		s.Kill()
	}
}

// flip changes a byte in the second half of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	assert.Sure(t, err)
	b[len(b)*3/4] ^= 1
	assert.Sure(t, os.WriteFile(path, b, 0o600))
}

// grantOf acquires and releases a key and returns its fence.
func grantOf(t *testing.T, s *lockServer) uint64 {
	t.Helper()
	c := open(t, urlOf(s.Addr, true), time.Second)
	l, err := c.Acquire(t.Context(), "key")
	assert.Sure(t, err)
	f, _ := l.Fence()
	assert.Sure(t, l.Release(t.Context()))
	assert.Sure(t, c.Close())
	return f
}

// valuesFile is where a data directory has its values.
const valuesFile = "values.db"

// asItWas is a values.db that nobody damaged.
const asItWas = "as it was"

// damageValues damages values.db of a copy of a directory whose server was killed,
// in one way at a time.
func damageValues(t *testing.T) {
	r := newRigWithout(t)
	values, other := newStored(r), newStored(r)
	values.fill(20)
	other.fill(30) // so that it is not taken for one that is too old
	older, _ := values.kill(), other.kill()
	values.restart()
	other.restart() // both at once, since they have a grace
	values.fill(20)
	other.fill(30)
	whole, foreign := values.kill(), other.kill()
	table := figures.NewTable("values.db", "starts", "refused", "went on with all values", "violations")
	for _, c := range []struct {
		test, name string
		files      [][]byte
	}{
		{"whole", asItWas, [][]byte{whole}},
		{"first pages", "a bit flipped in a first page", flippedAt(whole, firstPages())},
		{"values", "a bit flipped in a value, or in what is left of one", flippedAt(whole, values.places(whole))},
		{"anywhere", "a bit flipped anywhere", flippedAt(whole, anywhere(values.random(), len(whole)))},
		{"cut off", "cut off", [][]byte{{}, whole[:pageSize], whole[:len(whole)/2], whole[:len(whole)-1]}},
		{"missing", "missing", [][]byte{nil}},
		{"older", "an older copy", [][]byte{older}},
		{"foreign", "of another directory", [][]byte{foreign}},
	} {
		t.Run(c.test, func(t *testing.T) {
			refused := 0
			var found []campaign.Violation
			for _, file := range c.files {
				started, wrong := values.start(t, file)
				found = append(found, wrong...)
				if !started {
					refused++
				}
			}
			if c.name == asItWas && refused > 0 {
				found = append(found, campaign.Violationf("damage", "a server does not start with a values.db that is whole"))
			}
			table.Row(c.name, len(c.files), refused, len(c.files)-refused, len(found))
			campaign.Report(t, found)
		})
	}
	campaign.Show(t, table)
}

// A stored is a data directory with values.
type stored struct {
	*putters
	server *lockServer
	from   *rand.Rand
}

// newStored starts a server with a directory of its own.
func newStored(r *rig) *stored {
	r.t.Helper()
	// No lease is longer than the grace: those have records, and with each record
	// the slots would learn of the latest transaction of values.
	const ttl = time.Second
	r.server = startServer(r.t, "127.0.0.1:0", serverConfig{DataDir: filepath.Join(r.t.TempDir(), "data"), MaxGrace: ttl})
	p := newPutters(r, ttl)
	r.t.Cleanup(func() { _ = p.client.Close() }) // its server is gone
	return &stored{putters: p, server: r.server, from: p.random()}
}

// fill makes so many transactions of values.
func (s *stored) fill(writes int) {
	s.rig.t.Helper()
	for range writes {
		key := s.keys[s.from.IntN(len(s.keys))]
		assert.Sure(s.rig.t, s.holding(s.ctx, key, func(lease *distributed.Lease) error {
			_ = s.write(s.ctx, lease, randomly(s.from, key)) // what became of it is in the ledger
			return nil
		}))
	}
}

// kill kills the server, and returns what is in its values.db.
func (s *stored) kill() []byte {
	s.rig.t.Helper()
	s.server.Kill()
	b, err := os.ReadFile(filepath.Join(s.server.config.DataDir, valuesFile))
	assert.Sure(s.rig.t, err)
	return b
}

// restart starts the server again.
func (s *stored) restart() {
	s.rig.t.Helper()
	s.server = startServer(s.rig.t, s.server.Addr, s.server.config)
}

// start starts a server on a copy of the directory with another values.db, or with
// none if that is nil. It says whether the server started, and what is wrong.
func (s *stored) start(t *testing.T, file []byte) (started bool, wrong []campaign.Violation) {
	t.Helper()
	config := s.server.config
	config.DataDir = filepath.Join(t.TempDir(), "data")
	assert.Sure(t, os.CopyFS(config.DataDir, os.DirFS(s.server.config.DataDir)))
	at := filepath.Join(config.DataDir, valuesFile)
	assert.Sure(t, os.Remove(at))
	if file != nil {
		assert.Sure(t, os.WriteFile(at, file, 0o600))
	}
	server, err := launchServer(t.Context(), "", "127.0.0.1:0", config)
	if err != nil {
		if said := err.Error(); !strings.Contains(said, at) || !strings.Contains(said, "put the right file back") || strings.Contains(said, "goroutine ") {
			wrong = append(wrong, campaign.Violationf("damage", "a server does not start, and does not say why and what to do: %v", err))
		}
		return false, wrong
	}
	assert.Sure(t, s.readAll(server))
	server.Kill()
	s.mu.Lock()
	defer s.mu.Unlock()
	wrong, s.found = s.found, nil
	return true, wrong
}

// pageSize is that of values.db, which begins with two pages that say where
// everything is.
const pageSize = 4096

// firstPages are places in what counts of them: their kind, the root, the
// transaction, the checksum.
func firstPages() (places []int) {
	for page := range 2 {
		for _, at := range []int{16, 32, 64, 72} {
			places = append(places, page*pageSize+at)
		}
	}
	return places
}

// places are those of the last values that are there, and of what older pages have
// of them.
func (s *stored) places(file []byte) (places []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	const most = 12
	for _, key := range s.keys {
		h := s.of(key)
		if h.floor == 0 || h.writes[h.floor-1].data == nil {
			continue
		}
		data := h.writes[h.floor-1].data
		for from := 0; len(places) < most; {
			i := bytes.Index(file[from:], data)
			if i < 0 {
				break
			}
			places = append(places, from+i+len(data)/2)
			from += i + len(data)
		}
	}
	return places
}

// anywhere are random places.
func anywhere(random *rand.Rand, size int) (places []int) {
	for range flips.Get() {
		places = append(places, random.IntN(size))
	}
	return places
}

// flippedAt returns copies of a file, each with a bit flipped at one of the places.
func flippedAt(file []byte, places []int) (files [][]byte) {
	for _, at := range places {
		b := bytes.Clone(file)
		b[at] ^= 1
		files = append(files, b)
	}
	return files
}
