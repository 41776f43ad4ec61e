package datadir

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
)

// shelf makes a values.db with several levels of pages, after many transactions,
// and returns its bytes and what is in it.
func shelf(t testing.TB) (dir string, b []byte, want shelved) {
	t.Helper()
	dir, want = t.TempDir(), shelved{}
	vs, _, err := openValues(dir, id{1}, &State{}, 0, faults{noValuesSync: true})
	assert.Sure(t, err)
	for i := range 10 {
		var ops []valueOp
		for j := range 3 {
			v := StoredValue{Key: fmt.Sprintf("orders/%03d", (i*3+j)%25), Fence: uint64(i*3 + j), At: 5, Until: 1 << 50} //nolint:gosec // small
			v.Data = bytes.Repeat([]byte{byte(i + j)}, []int{0, 100, 500, 4200}[(i+j)%4]/(1+i/8))
			ops, want[v.Key] = append(ops, valueOp{v, false}), v
		}
		gone := fmt.Sprintf("orders/%03d", i)
		ops = append(ops, valueOp{StoredValue{Key: gone, Fence: 1 << 40}, true})
		delete(want, gone)
		assert.Sure(t, vs.apply(ops))
	}
	assert.Sure(t, vs.close())
	b, err = os.ReadFile(filepath.Join(dir, valuesName))
	assert.Sure(t, err)
	return dir, b, want
}

// TestEveryValueDamage changes every byte of a values.db and cuts it at every
// length: all values must be there as they were, or the file be refused. What was
// taken is then written to, which must do no harm either.
func TestEveryValueDamage(t *testing.T) {
	dir, whole, want := shelf(t)
	step, every := 1, 101
	if testing.Short() {
		step, every = 23, 31
	}
	bf, err := openBolt(bytes.NewReader(whole), int64(len(whole)), faults{})
	assert.Sure(t, err)
	assert.Sure(t, bf.bucket(bucketName, func(element) error { return nil }))
	if len(bf.pages) < 6 {
		t.Fatalf("only %d pages are in use", len(bf.pages))
	}
	var tries, recovered, written int
	try := func(b []byte, what string) {
		tries++
		found, err := readValues(bytes.NewReader(b), int64(len(b)), faults{})
		if err == nil {
			err = found.head.belongs(id{1}, &State{Boot: 1, ValuesTx: 2}, faults{})
		}
		if err != nil {
			return
		}
		if !want.is(found.values) {
			t.Fatalf("%s: %d values are not the %d that were put", what, len(found.values), len(want))
		}
		if recovered++; recovered%every == 0 {
			written++
			writeOn(t, dir, b, want, what)
		}
	}
	began := time.Now()
	used := map[int]bool{0: true, 1: true}
	for _, p := range bf.pages {
		for i := range len(p.b) / valuesPage {
			used[int(p.at)/valuesPage+i] = true
		}
	}
	assert.Sure(t, bf.free()) // adds the list of free pages
	used[int(bf.meta.freelist)] = true
	for at := 0; at < len(whole); at += step {
		if !used[at/valuesPage] && at%61 != 0 {
			continue // nothing reads it
		}
		for _, flip := range []byte{1 << (at % 8), 0xff} {
			b := whole
			b[at] ^= flip
			try(b, fmt.Sprintf("byte %d xor %#x", at, flip))
			b[at] ^= flip
		}
		try(whole[:at], fmt.Sprintf("cut to %d bytes", at))
	}
	t.Logf("%d bytes, %d pages in use: %d tries in %v, %d recovered, of which %d were written to, the rest refused",
		len(whole), len(bf.pages), tries, time.Since(began).Round(time.Millisecond), recovered, written)
	if recovered == 0 || written == 0 || recovered == tries {
		t.Error("something never happened: does the test still look?")
	}
}

// writeOn opens a file that was taken in spite of damage, and changes most of it.
func writeOn(t *testing.T, dir string, b []byte, want shelved, what string) {
	t.Helper()
	assert.Sure(t, os.WriteFile(filepath.Join(dir, valuesName), b, 0o600))
	quick := faults{noValuesSync: true}
	vs, live, err := openValues(dir, id{1}, &State{Boot: 1, ValuesTx: 2}, 0, quick)
	if err != nil || !want.is(live) {
		t.Fatalf("%s: %d values, error %v", what, len(live), err)
	}
	left := shelved{}
	i := 0
	for _, v := range live {
		if i++; i%3 > 0 {
			v.Data = bytes.Clone(v.Data)
			left[v.Key] = v
			continue
		}
		v.Data, v.Fence = make([]byte, 6000), v.Fence+1000
		left[v.Key] = v
		assert.Sure(t, vs.apply([]valueOp{{v, false}}))
	}
	assert.Sure(t, vs.close())
	vs, live, err = openValues(dir, id{1}, &State{Boot: 2, ValuesTx: 2}, 0, quick)
	if err != nil || !left.is(live) {
		t.Fatalf("%s, and written to: %d values of %d, error %v", what, len(live), len(left), err)
	}
	assert.Sure(t, vs.close())
}

// FuzzReadValues feeds any bytes to what reads values.db: it must neither panic
// nor go round in circles, and what it takes must have the sums it says.
func FuzzReadValues(f *testing.F) {
	_, whole, _ := shelf(f)
	f.Add(uint32(0), uint64(0), whole)
	f.Add(uint32(4096*3), uint64(3), whole)
	f.Fuzz(func(t *testing.T, at uint32, word uint64, b []byte) {
		b = bytes.Clone(b)
		for i := 0; i < 8 && int(at)+i < len(b); i++ {
			b[int(at)+i] = byte(word >> (8 * i))
		}
		for _, f := range []faults{{}, {valuesUnchecked: true, fallBack: true, noSums: true}} {
			found, err := readValues(bytes.NewReader(b), int64(len(b)), f)
			if (found == nil) == (err == nil) {
				t.Errorf("found %v, error %v", found, err)
			}
		}
	})
}

// TestPointersInPages has every page point to every page, in every eight bytes
// that say how a page goes on, with no checksum in the way: what reads it must come to an end.
func TestPointersInPages(t *testing.T) {
	_, whole, _ := shelf(t)
	blind := faults{valuesUnchecked: true, noSums: true}
	pages, step := len(whole)/valuesPage, 8
	if testing.Short() {
		step = 64
	}
	bf, err := openBolt(bytes.NewReader(whole), int64(len(whole)), faults{})
	assert.Sure(t, err)
	assert.Sure(t, bf.bucket(bucketName, func(element) error { return nil }))
	assert.Sure(t, bf.free())
	taken, tries := 0, 0
	for at := 2 * valuesPage; at < len(whole); at += step {
		if !bf.taken[min(at/valuesPage, len(bf.taken)-1)] || at%valuesPage >= 512 {
			continue
		}
		tries += pages
		was := bytes.Clone(whole[at : at+8])
		for p := range pages {
			copy(whole[at:], []byte{byte(p), 0, 0, 0, 0, 0, 0, 0})
			if _, err := readValues(bytes.NewReader(whole), int64(len(whole)), blind); err == nil {
				taken++
			}
		}
		copy(whole[at:], was)
	}
	t.Logf("%d of %d were taken", taken, tries)
}

// TestValueRefusals wants each kind of wrong values.db refused by what it is.
func TestValueRefusals(t *testing.T) {
	dir, whole, _ := shelf(t)
	path := filepath.Join(dir, valuesName)
	for name, c := range map[string]struct {
		slots State
		name  id
		file  []byte
	}{
		"it is missing":                {State{Boot: 1, ValuesTx: 3}, id{1}, nil},
		"it is empty":                  {State{Boot: 1, ValuesTx: 3}, id{1}, []byte{}},
		"it is cut off":                {State{Boot: 1, ValuesTx: 3}, id{1}, whole[:len(whole)/2]},
		"it is of another directory":   {State{Boot: 1, ValuesTx: 3}, id{2}, whole},
		"it is of an earlier start":    {State{Boot: 2, ValuesTx: 3}, id{1}, whole},
		"it lacks transactions":        {State{Boot: 1, ValuesTx: 33}, id{1}, whole},
		"the slots are older, a start": {State{Boot: 0, ValuesTx: 3}, id{1}, whole},
		"the slots know of no values":  {State{Boot: 1}, id{1}, whole},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Sure(t, os.RemoveAll(path))
			if c.file != nil {
				assert.Sure(t, os.WriteFile(path, c.file, 0o600))
			}
			_, _, err := openValues(dir, c.name, &c.slots, 0, faults{})
			assert.Matches(t, err, ErrDamaged)
			var de *DamagedError
			if !errors.As(err, &de) || de.File != path {
				t.Fatalf("%v does not name %s", err, path)
			}
			t.Log(err)
			after, err := os.ReadFile(path)
			if c.file == nil && !errors.Is(err, os.ErrNotExist) || !bytes.Equal(after, c.file) {
				t.Errorf("the file was touched, error %v", err)
			}
		})
	}
}
