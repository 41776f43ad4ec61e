package guard

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"testing"

	"github.com/distributed-go/distributed/internal/assert"
)

// A model is a disk in memory that can crash before any step. What was not
// synced may then be there or not: of names each change by itself, in any
// combination, of contents nothing, a part or all. That is more than real file
// systems do.
type model struct {
	names  map[string]*inode // as programs see them
	synced map[string]*inode // as they are on the platter
	moves  []move            // the changes of names since
	steps  int               // left until the crash; negative is for ever
	locked bool
	slack  slack
}

// slack is what a wrong disk, or a wrong use of it, leaves out.
type slack struct{ syncDir, syncFile bool }

type inode struct {
	data   string
	synced bool
}

// A move gives a name another inode, or none, and takes it from another name.
type move struct {
	from, to string
	file     *inode
}

func newModel() *model {
	return &model{names: make(map[string]*inode), synced: make(map[string]*inode), steps: -1}
}

var errCrash = errors.New("crash")

func (m *model) step() error {
	if m.steps == 0 {
		return errCrash
	}
	m.steps--
	return nil
}

func (m *model) change(c move) {
	apply(m.names, c)
	m.moves = append(m.moves, c)
}

func apply(names map[string]*inode, c move) {
	if c.from != "" {
		delete(names, c.from)
	}
	if c.file != nil {
		names[c.to] = c.file
	}
}

func (m *model) lock(string) (func(), error) {
	if m.locked {
		return nil, errLocked
	}
	m.locked = true
	return func() { m.locked = false }, nil
}

func (m *model) read(path string) ([]byte, error) {
	if f := m.names[path]; f != nil {
		return []byte(f.data), nil
	}
	return nil, fs.ErrNotExist
}

func (m *model) remove(path string) error {
	if err := m.step(); err != nil {
		return err
	}
	if m.names[path] == nil {
		return fs.ErrNotExist
	}
	m.change(move{from: path})
	return nil
}

func (m *model) create(path string, _ fs.FileMode, data []byte) error {
	if err := m.step(); err != nil {
		return err
	}
	if m.names[path] != nil {
		return fs.ErrExist
	}
	f := new(inode)
	m.change(move{to: path, file: f})
	if err := m.step(); err != nil {
		return err
	}
	f.data = string(data[:len(data)/2])
	if err := m.step(); err != nil {
		return err
	}
	f.data = string(data)
	if err := m.step(); err != nil {
		return err
	}
	f.synced = !m.slack.syncFile
	return nil
}

func (m *model) rename(from, to string) error {
	if err := m.step(); err != nil {
		return err
	}
	m.change(move{from: from, to: to, file: m.names[from]})
	return nil
}

func (m *model) syncDir(string) error {
	if err := m.step(); err != nil {
		return err
	}
	if !m.slack.syncDir {
		m.synced, m.moves = maps.Clone(m.names), nil
	}
	return nil
}

// killed is the disk after the death of the process: nothing is lost.
func (m *model) killed() *model {
	k := newModel()
	k.slack, k.synced = m.slack, maps.Clone(m.synced)
	k.names, k.moves = maps.Clone(m.names), append([]move(nil), m.moves...)
	return k
}

// cut calls f with every disk that a power cut can leave.
func (m *model) cut(f func(*model)) {
	for subset := range 1 << len(m.moves) {
		names := maps.Clone(m.synced)
		for i, c := range m.moves {
			if subset>>i&1 == 1 {
				apply(names, c)
			}
		}
		for _, keep := range []int{0, 1, 2} { // halves of what was not synced
			k := newModel()
			for name, file := range names {
				data := file.data
				if !file.synced {
					data = data[:len(data)*keep/2]
				}
				k.names[name] = &inode{data: data, synced: true}
			}
			k.synced, k.slack = maps.Clone(k.names), m.slack
			f(k)
		}
	}
}

const crashPath = "dir/file"

// content is long enough that half of it is not a whole one.
func content(fence uint64) []byte { return fmt.Appendf(nil, "written with %d.", fence) }

type writer func(f File, fence uint64) error

func wholeWrite(t *testing.T) writer {
	return func(f File, fence uint64) error { return f.Write(t.Context(), fence, content(fence)) }
}

// intact returns what is wrong with a disk on which fences from first to last
// were used.
func intact(m *model, first, last uint64) error {
	seen, err := File{Path: crashPath, disk: m}.seen(m)
	if err != nil {
		return err
	}
	data, err := m.read(crashPath)
	if err != nil {
		return err
	}
	for f := first; f <= last; f++ {
		if string(data) == string(content(f)) {
			if seen < f {
				return fmt.Errorf("the fence is %d, but %d wrote", seen, f)
			}
			return nil
		}
	}
	return fmt.Errorf("the file has %q", data)
}

// crashes lets write crash at every point, at first by a kill and then by a
// power cut, or by a power cut alone, and returns what was wrong afterwards.
func crashes(t *testing.T, w writer, s slack) (points int, wrong []string) {
	start := newModel()
	assert.Sure(t, wholeWrite(t)(File{Path: crashPath, disk: start}, 5))
	start.slack = s
	report := func(m *model, what string, last uint64) {
		points++
		if err := intact(m, 5, last); err != nil {
			wrong = append(wrong, what+": "+err.Error())
		}
	}
	for first := 0; ; first++ {
		m := start.killed()
		m.steps = first
		err := w(File{Path: crashPath, disk: m}, 6)
		m.cut(func(k *model) { report(k, fmt.Sprintf("power cut before step %d", first), 6) })
		if err == nil {
			m.cut(func(k *model) {
				if data, _ := k.read(crashPath); string(data) != string(content(6)) {
					wrong = append(wrong, fmt.Sprintf("after success the file has %q", data))
				}
			})
		}
		report(m.killed(), fmt.Sprintf("kill before step %d", first), 6)
		for _, fence := range []uint64{6, 7} { // the same holder's next process, or another
			for second := 0; ; second++ {
				n := m.killed()
				n.steps = second
				err := w(File{Path: crashPath, disk: n}, fence)
				n.cut(func(k *model) {
					report(k, fmt.Sprintf("kill before step %d, power cut before step %d of %d", first, second, fence), fence)
				})
				if !errors.Is(err, errCrash) {
					if err != nil {
						wrong = append(wrong, fmt.Sprintf("the next write: %v", err))
					}
					break
				}
			}
		}
		if err == nil {
			return points, wrong
		}
	}
}

func TestFileSurvivesACrashAtEveryPoint(t *testing.T) {
	points, wrong := crashes(t, wholeWrite(t), slack{})
	t.Logf("%d disks after crashes", points)
	for _, w := range wrong {
		t.Error(w)
	}
	if points < 100 {
		t.Error("too few crashes: does the model still count steps?")
	}
}

func TestCrashesCatchABrokenFile(t *testing.T) {
	dataFirst := func(f File, fence uint64) error {
		if err := f.replace(f.disk, f.Path, 0o600, content(fence)); err != nil {
			return err
		}
		return f.raise(f.disk, fence)
	}
	trusting := func(f File, fence uint64) error { // takes a fence that it reads for one on the disk
		seen, err := f.seen(f.disk)
		if err != nil {
			return err
		}
		if fence > seen {
			if err := f.raise(f.disk, fence); err != nil {
				return err
			}
		}
		return f.replace(f.disk, f.Path, 0o600, content(fence))
	}
	inPlace := func(f File, fence uint64) error {
		if err := f.raise(f.disk, fence); err != nil {
			return err
		}
		_ = f.disk.remove(f.Path)
		if err := f.disk.create(f.Path, 0o600, content(fence)); err != nil {
			return err
		}
		return f.disk.syncDir("dir")
	}
	for name, c := range map[string]struct {
		w writer
		s slack
	}{
		"no sync of the directory":   {wholeWrite(t), slack{syncDir: true}},
		"no sync of the content":     {wholeWrite(t), slack{syncFile: true}},
		"the data before the fence":  {dataFirst, slack{}},
		"trust in a fence once read": {trusting, slack{}},
		"overwriting in place":       {inPlace, slack{}},
	} {
		points, wrong := crashes(t, c.w, c.s)
		if len(wrong) == 0 {
			t.Errorf("%s: not caught", name)
			continue
		}
		t.Logf("%s: caught on %d of %d disks, as: %s", name, len(wrong), points, strings.TrimSpace(wrong[0]))
	}
}
