//go:build unix

package faults

import (
	"bytes"
	"fmt"
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

var flips = size.New("flips", 8, 24, "bytes of values.db to flip at random, besides those that are chosen")

// TestDamagedDirectory flips bytes in the files of a directory, and cuts off,
// removes and replaces values.db. With one slot whole the server goes on, and fences
// grow; with none it does not start. It has all values that were put, or does not
// start and says why.
func TestDamagedDirectory(t *testing.T) {
	beside(t)
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

// damageValues damages values.db of a copy of a directory whose server was killed,
// in one way at a time.
func damageValues(t *testing.T) {
	r := newRigWithout(t)
	values := newStored(r, 20)
	other := newStored(r, 30)
	whole, err := os.ReadFile(filepath.Join(values.dir, valuesFile))
	assert.Sure(t, err)
	foreign, err := os.ReadFile(filepath.Join(other.dir, valuesFile))
	assert.Sure(t, err)
	table := figures.NewTable("values.db", "starts", "refused", "went on with all values", "violations")
	for _, c := range []struct {
		name   string
		files  [][]byte
		starts bool // it must
	}{
		{"as it was", [][]byte{whole}, true},
		{"a byte flipped in a first page", flippedAt(whole, firstPages()), false},
		{"a byte flipped in a value, or in what is left of one", flippedAt(whole, values.places(whole)), false},
		{"a byte flipped anywhere", flippedAt(whole, anywhere(values.random(), len(whole))), false},
		{"cut off", [][]byte{{}, whole[:pageSize], whole[:len(whole)/2], whole[:len(whole)-1]}, false},
		{"missing", [][]byte{nil}, false},
		{"an older copy", [][]byte{values.older}, false},
		{"of another directory", [][]byte{foreign}, false},
	} {
		refused, found := 0, len(values.found)
		for _, file := range c.files {
			if !values.start(t, c.name, file) {
				refused++
			}
		}
		if c.starts && refused > 0 {
			values.found = append(values.found, campaign.Violationf("damage", "a server does not start with a values.db that is %s", c.name))
		}
		table.Row(c.name, len(c.files), refused, len(c.files)-refused, len(values.found)-found)
	}
	campaign.Show(t, table)
	campaign.Report(t, values.found)
}

// A stored is a data directory with values, whose server was killed.
type stored struct {
	*putters
	config serverConfig
	dir    string
	older  []byte // values.db between its two servers
}

// newStored has two servers, one after the other, keep values, and kills them.
func newStored(r *rig, writes int) *stored {
	t := r.t
	t.Helper()
	s := &stored{dir: filepath.Join(t.TempDir(), "data")}
	s.config = serverConfig{DataDir: s.dir, MaxGrace: restartTTL()}
	r.server = startServer(t, "127.0.0.1:0", s.config)
	s.putters = newPutters(r)
	random := s.random()
	for range 2 {
		for range writes {
			key := s.keys[random.IntN(len(s.keys))]
			assert.Sure(t, s.holding(r.ctx, key, func(lease *distributed.Lease) error { return s.write(r.ctx, lease, randomly(random, key)) }))
		}
		r.server.Kill()
		if s.older == nil {
			var err error
			s.older, err = os.ReadFile(filepath.Join(s.dir, valuesFile))
			assert.Sure(t, err)
			r.server = startServer(t, r.server.Addr, s.config)
		}
	}
	s.cancel()
	_ = s.client.Close() // its server is gone
	return s
}

// start starts a server on a copy of the directory with another values.db, or with
// none if that is nil. It says whether the server started.
func (s *stored) start(t *testing.T, how string, file []byte) bool {
	t.Helper()
	config := s.config
	config.DataDir = filepath.Join(t.TempDir(), "data")
	assert.Sure(t, os.CopyFS(config.DataDir, os.DirFS(s.dir)))
	at := filepath.Join(config.DataDir, valuesFile)
	assert.Sure(t, os.Remove(at))
	if file != nil {
		assert.Sure(t, os.WriteFile(at, file, 0o600))
	}
	server, err := launchServer(t.Context(), "", "127.0.0.1:0", config)
	if err != nil {
		if said := err.Error(); !strings.Contains(said, at) || !strings.Contains(said, "put the right file back") || strings.Contains(said, "goroutine ") {
			s.found = append(s.found, campaign.Violationf("damage", "with a values.db that is %s the server does not start, and does not say why and what to do: %v", how, err))
		}
		return false
	}
	before := len(s.found)
	assert.Sure(t, s.readAll(server))
	for i := range s.found[before:] {
		s.found[before+i].Detail = fmt.Sprintf("with a values.db that is %s a server started: %s", how, s.found[before+i].Detail)
	}
	server.Kill()
	return true
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
