//go:build unix

package once

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/distributed-go/distributed/internal/assert"
	"golang.org/x/sys/unix"
)

// groupKeys is how many keys groups are called with.
const groupKeys = 10

// An arena is memory that the test shares with its processes, so that they begin
// rounds together and nobody has to guess when all have come.
type arena struct {
	round    atomic.Int64            // that may begin; the first is 1
	done     atomic.Int64            // rounds that processes have ended, all together
	came     [groupKeys]atomic.Int64 // callers, of all rounds
	runs     [groupKeys]atomic.Int64 // functions that started
	released [groupKeys]atomic.Int64 // up to which round functions may return
}

// openArena opens an arena in a file.
func openArena(path string) (*arena, func() error, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	size := int(unsafe.Sizeof(arena{}))
	if err := f.Truncate(int64(size)); err != nil {
		return nil, nil, err
	}
	b, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, err
	}
	return (*arena)(unsafe.Pointer(unsafe.SliceData(b))), func() error { return unix.Munmap(b) }, nil
}

// awaitAtLeast waits for a counter that another process moves.
func awaitAtLeast(c *atomic.Int64, n int64) {
	for c.Load() < n {
		time.Sleep(50 * time.Microsecond) // real time: of other processes
	}
}

func TestArenaIsShared(t *testing.T) {
	path := filepath.Join(t.TempDir(), "arena")
	a, closeA, err := openArena(path)
	assert.Sure(t, err)
	b, closeB, err := openArena(path)
	assert.Sure(t, err)
	a.released[9].Store(7)
	if got := b.released[9].Load(); got != 7 {
		t.Errorf("the other has %d, want 7", got)
	}
	assert.Sure(t, closeA())
	assert.Sure(t, closeB())
}
