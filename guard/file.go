package guard

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// A File is a file whose replacement is guarded. Beside it lie path.fence, with
// the largest fence seen, and path.fence.lock, which is empty and stays; a crash
// may leave path.fence.tmp, which the next write removes. It is a plain value,
// safe for concurrent use by goroutines and processes.
//
// Readers read the file as any other: they see an old state or a new one, whole.
// All writers must use File, by the same path: the fence belongs to the name,
// and what a symbolic link points to is another file. A file that exists
// already is guarded from the first write on.
//
// It needs flock(2), which Linux, macOS, the BSDs and illumos have; elsewhere
// everything returns an error matching errors.ErrUnsupported. It is for file
// systems of one machine: on a network file system a machine that is paused
// loses the flock with its lease, and is a late holder once more.
type File struct {
	// Path of the file. The directory must exist.
	Path string
	// Perm is the mode of the file before the umask. The default is 0o600.
	Perm fs.FileMode

	disk disk // nil is the machine's
}

// Check remembers the fence and leaves the file as it is. Call it before you
// read what you are going to change: from then on no earlier holder can write.
// It returns a *StaleError if a larger fence was seen.
func (f File) Check(ctx context.Context, fence uint64) error {
	return f.guarded(ctx, fence, nil)
}

// Write replaces the file by data, or returns a *StaleError if a larger fence
// was seen. When it returns nil, data and fence survive a power cut; when it
// returns another error, or is cut short by a crash at any point, the file is
// the old one or the new one, whole, and no smaller fence than that of what
// stands there is accepted afterwards.
//
// It waits while another writer is at work, until ctx ends; a writer that is
// stopped in the middle holds up the others until it goes on or is killed.
func (f File) Write(ctx context.Context, fence uint64, data []byte) error {
	return f.guarded(ctx, fence, func(d disk) error {
		perm := f.Perm
		if perm == 0 {
			perm = 0o600
		}
		return f.replace(d, f.Path, perm, data)
	})
}

// guarded calls write, if there is one, under the lock and with the fence stored.
func (f File) guarded(ctx context.Context, fence uint64, write func(disk) error) error {
	if f.Path == "" {
		return errors.New("guard: the path of the File is empty")
	}
	if err := usable(f.Path, fence); err != nil {
		return err
	}
	d := f.disk
	if d == nil {
		d = machine{}
	}
	unlock, err := f.lock(ctx, d)
	if err != nil {
		return failed(f.Path, "lock", err)
	}
	defer unlock()
	if err := f.raise(d, fence); err != nil {
		return err
	}
	if write == nil {
		return nil
	}
	if err := write(d); err != nil {
		return failed(f.Path, "write", err)
	}
	return nil
}

func (f File) fencePath() string { return f.Path + ".fence" }

// lock takes the lock of the operating system. It polls, because flock(2)
// cannot be told of a context.
func (f File) lock(ctx context.Context, d disk) (unlock func(), err error) {
	pauses := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(time.Millisecond),
		backoff.WithMaxInterval(50*time.Millisecond),
		backoff.WithMaxElapsedTime(0),
	)
	err = backoff.Retry(func() error {
		var err error
		if unlock, err = d.lock(f.fencePath() + ".lock"); err != nil && !errors.Is(err, errLocked) {
			return backoff.Permanent(err)
		}
		return err
	}, backoff.WithContext(pauses, ctx))
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", errLocked, context.Cause(ctx))
	}
	return unlock, err
}

// raise stores the fence if it is larger than the stored one. It comes before
// the data: were the data first, a crash between the two would leave new data
// with the old fence, and a late holder could overwrite it.
func (f File) raise(d disk, fence uint64) error {
	seen, err := f.seen(d)
	if err != nil {
		return failed(f.Path, "read the fence", err)
	}
	if err := judge(f.Path, fence, seen); err != nil {
		return err
	}
	if fence > seen {
		err = f.replace(d, f.fencePath(), 0o600, formatFence(fence))
	} else {
		// Whoever stored it may have died before it was on the disk, and the
		// order in which two renames get there is nobody's promise.
		err = d.syncDir(filepath.Dir(f.Path))
	}
	if err != nil {
		return failed(f.Path, "store the fence", err)
	}
	return nil
}

// seen returns the stored fence, or 0 if none was stored.
func (f File) seen(d disk) (uint64, error) {
	data, err := d.read(f.fencePath())
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return parseFence(data)
}

// replace puts data in the place of the file at path. The caller holds the
// lock, so one name for what is under way will do.
func (f File) replace(d disk, path string, perm fs.FileMode, data []byte) error {
	tmp := f.fencePath() + ".tmp"
	if err := d.remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := d.create(tmp, perm, data)
	if err == nil {
		err = d.rename(tmp, path)
	}
	if err != nil {
		_ = d.remove(tmp) // there may be no room for it: what counts is the first error
		return err
	}
	return d.syncDir(filepath.Dir(path))
}

// formatFence returns the content of the file for the fence: the number, and a
// checksum of its digits.
func formatFence(fence uint64) []byte {
	digits := strconv.FormatUint(fence, 10)
	return fmt.Appendf(nil, "%s %08x\n", digits, crc32.ChecksumIEEE([]byte(digits)))
}

// parseFence is the inverse of formatFence. A damaged file is an error and not
// 0: that would let everybody in.
func parseFence(data []byte) (uint64, error) {
	const longest = 30 // of formatFence
	digits, _, _ := strings.Cut(string(data[:min(len(data), longest)]), " ")
	fence, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || fence == 0 || string(formatFence(fence)) != string(data) {
		return 0, fmt.Errorf("%.40q is no fence: the file is damaged; when nobody holds the lock, remove it", data)
	}
	return fence, nil
}
