package datadir

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// How bbolt lays out its pages, in the machine's byte order: file format 2.
//
//	page:    id:8 flags:2 count:2 overflow:4, then what the flags say
//	meta:    magic:4 version:4 pagesize:4 flags:4 root:8 sequence:8 freelist:8 high:8 tx:8 fnv64a:8
//	branch:  (pos:4 ksize:4 page:8)... key...
//	leaf:    (flags:4 pos:4 ksize:4 vsize:4)... key value key value...
//	free:    page:8...
//	bucket:  root:8 sequence:8, and if root is 0 the page itself
const (
	boltMagic     = 0xED0CDAED
	boltVersion   = 2
	pageHead      = 16
	elementSize   = 16
	metaSize      = 64
	bucketHead    = 16
	flagBranch    = 1
	flagLeaf      = 2
	flagMeta      = 4
	flagFree      = 16
	elementBucket = 1
	manyFree      = 0xFFFF // the number stands before the list
	valuesPage    = 4096   // bytes of a page, on every machine
)

// A boltMeta is one of the two pages that say where everything begins.
type boltMeta struct{ root, freelist, high, tx uint64 }

// A boltPage is a page with its overflow, and where it stands.
type boltPage struct {
	at int64
	b  []byte
}

// A boltFile reads a file of bbolt without mapping it, and believes nothing of
// it: every length and every number of a page is looked at before it is used, no
// page is read twice, and what bbolt would have laid out otherwise is refused.
// That is more than bbolt does, whose own reading can go round in circles.
type boltFile struct {
	r     io.ReaderAt
	size  int64
	meta  boltMeta
	taken []bool     // pages in use
	pages []boltPage // all that are in use, but for the metas
}

// openBolt reads and checks both meta pages. Each transaction writes one of them,
// as the last thing and within a sector, so after every crash both are whole and
// one transaction apart. If that is not so then one is damaged, and nothing says
// whether it was the newer one: what bbolt does then, to fall back on the other
// one, could forget a transaction that counts.
func openBolt(r io.ReaderAt, size int64, f faults) (*boltFile, error) {
	bf := &boltFile{r: r, size: size}
	var metas [2]boltMeta
	var errs [2]error
	for i := range metas {
		metas[i], errs[i] = bf.readMeta(i)
	}
	newer := 0
	if metas[1].tx > metas[0].tx {
		newer = 1
	}
	a, b := metas[newer], metas[1-newer]
	switch {
	case f.fallBack && (errs[0] == nil || errs[1] == nil):
		if errs[newer] != nil {
			a = b
		}
	case errs[0] != nil || errs[1] != nil:
		return nil, cmp.Or(errs[0], errs[1])
	case a.tx != b.tx+1:
		return nil, fmt.Errorf("has first pages of transactions %d and %d", a.tx, b.tx)
	}
	bf.meta = a
	if a.high > uint64(size)/valuesPage { //nolint:gosec // a file's size
		return nil, fmt.Errorf("is cut off after %d bytes, it has %d pages of %d", size, a.high, valuesPage)
	}
	bf.taken = make([]bool, a.high)
	return bf, nil
}

func (bf *boltFile) readMeta(i int) (m boltMeta, err error) {
	b := make([]byte, pageHead+metaSize)
	if _, err := bf.r.ReadAt(b, int64(i)*valuesPage); err != nil {
		return m, cutOff(err, bf.size)
	}
	h := fnv.New64a()
	h.Write(b[pageHead : pageHead+metaSize-8])
	n := binary.NativeEndian
	m = boltMeta{root: n.Uint64(b[32:]), freelist: n.Uint64(b[48:]), high: n.Uint64(b[56:]), tx: n.Uint64(b[64:])}
	switch {
	case n.Uint32(b[16:]) != boltMagic || n.Uint32(b[20:]) != boltVersion || n.Uint32(b[24:]) != valuesPage:
		return boltMeta{}, fmt.Errorf("has a page %d that is not one of values.db, or of another kind of machine", i)
	case n.Uint64(b[72:]) != h.Sum64():
		return boltMeta{}, fmt.Errorf("has a wrong checksum of page %d", i)
	case n.Uint64(b) != uint64(i) || n.Uint16(b[8:]) != flagMeta || m.tx%2 != uint64(i): //nolint:gosec // 0 or 1
		return boltMeta{}, fmt.Errorf("has a page %d that belongs elsewhere", i)
	}
	return m, nil
}

// cutOff makes the end of the file an error that says so, and leaves others.
func cutOff(err error, size int64) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("is cut off after %d bytes", size)
	}
	return readError{err}
}

// A readError is not damage that can be judged: the file system could not read.
type readError struct{ error }

func (e readError) Unwrap() error { return e.error }

// page reads a page with its overflow, which must be free of other use.
func (bf *boltFile) page(number uint64) (flags uint16, b []byte, err error) {
	if number < 2 || number >= bf.meta.high {
		return 0, nil, fmt.Errorf("points to a page %d, it has 2 to %d", number, bf.meta.high-1)
	}
	var head [pageHead]byte
	at := int64(number) * valuesPage //nolint:gosec // below the file's size
	if _, err := bf.r.ReadAt(head[:], at); err != nil {
		return 0, nil, cutOff(err, bf.size)
	}
	over := uint64(binary.NativeEndian.Uint32(head[12:]))
	if binary.NativeEndian.Uint64(head[:]) != number || over >= bf.meta.high-number {
		return 0, nil, fmt.Errorf("has a page %d that is not at its place or too long", number)
	}
	for i := number; i <= number+over; i++ {
		if bf.taken[i] {
			return 0, nil, fmt.Errorf("uses page %d twice", i)
		}
		bf.taken[i] = true
	}
	b = make([]byte, (over+1)*valuesPage)
	if _, err := bf.r.ReadAt(b, at); err != nil {
		return 0, nil, cutOff(err, bf.size)
	}
	bf.pages = append(bf.pages, boltPage{at, b})
	return binary.NativeEndian.Uint16(head[8:]), b, nil
}

// An element is an entry of a leaf, or of a branch with the page in value's place.
type element struct {
	key, value []byte
	page       uint64
	bucket     bool
}

// elements returns what a page lists, if it lies as bbolt lays it: densely and in
// strict order, beginning with low and before high, which are nil for none. That a
// page begins with the very key that its parent has for it is what bbolt relies on
// when it writes: where they differ it would leave two entries for one page.
func elements(b []byte, flags uint16, low, high []byte) ([]element, int, error) {
	n := binary.NativeEndian
	count := int(n.Uint16(b[10:]))
	end := pageHead + count*elementSize
	if flags != flagLeaf && flags != flagBranch || end > len(b) || count == 0 && (flags == flagBranch || low != nil) {
		return nil, 0, fmt.Errorf("has a page with flags %#x and %d entries", flags, count)
	}
	all := make([]element, count)
	for i := range all {
		at := pageHead + i*elementSize
		e, pos, ksize, vsize := element{}, n.Uint32(b[at:]), n.Uint32(b[at+4:]), uint32(0)
		if flags == flagLeaf {
			kind := n.Uint32(b[at:])
			pos, ksize, vsize = n.Uint32(b[at+4:]), n.Uint32(b[at+8:]), n.Uint32(b[at+12:])
			if e.bucket = kind == elementBucket; kind > elementBucket {
				return nil, 0, fmt.Errorf("has an entry of kind %d", kind)
			}
		} else {
			e.page = n.Uint64(b[at+8:])
		}
		if at+int(pos) != end || int64(ksize)+int64(vsize) > int64(len(b)-end) {
			return nil, 0, errors.New("has an entry that is not at its place")
		}
		e.key, e.value = b[end:end+int(ksize)], b[end+int(ksize):end+int(ksize)+int(vsize)]
		end += int(ksize) + int(vsize)
		if i == 0 && low != nil && !bytes.Equal(e.key, low) || i > 0 && bytes.Compare(e.key, all[i-1].key) <= 0 || high != nil && bytes.Compare(e.key, high) >= 0 {
			return nil, 0, errors.New("has entries out of order")
		}
		all[i] = e
	}
	return all, end, nil
}

// tree calls f with all leaf entries below a page, in order.
func (bf *boltFile) tree(number uint64, low, high []byte, f func(element) error) error {
	flags, b, err := bf.page(number)
	if err != nil {
		return err
	}
	all, end, err := elements(b, flags, low, high)
	if err != nil {
		return err
	}
	if (end+valuesPage-1)/valuesPage != len(b)/valuesPage {
		return fmt.Errorf("has a page %d of %d bytes with %d in it", number, len(b), end)
	}
	for i, e := range all {
		if flags == flagLeaf {
			err = f(e)
		} else {
			next := high
			if i+1 < len(all) {
				next = all[i+1].key
			}
			err = bf.tree(e.page, e.key, next, f) // it ends: no page is read twice
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bucket calls f with all entries of the one bucket there must be, in order.
func (bf *boltFile) bucket(name string, f func(element) error) error {
	buckets := 0
	err := bf.tree(bf.meta.root, nil, nil, func(e element) error {
		if buckets++; buckets > 1 || !e.bucket || string(e.key) != name || len(e.value) < bucketHead {
			return errors.New("has another bucket than " + name)
		}
		if root := binary.NativeEndian.Uint64(e.value); root != 0 {
			return bf.tree(root, nil, nil, f)
		}
		return inline(e.value[bucketHead:], f)
	})
	if err == nil && buckets == 0 {
		err = errors.New("has no bucket " + name)
	}
	return err
}

// inline calls f with the entries of a bucket that is small enough to have no page
// of its own.
func inline(b []byte, f func(element) error) error {
	if len(b) < pageHead {
		return errors.New("has a bucket that is too short")
	}
	all, end, err := elements(b, flagLeaf, nil, nil)
	n := binary.NativeEndian
	if err == nil && (end != len(b) || n.Uint64(b) != 0 || n.Uint16(b[8:]) != flagLeaf || n.Uint32(b[12:]) != 0) {
		err = errors.New("has a bucket that is not as it must be")
	}
	for _, e := range all {
		if err != nil {
			break
		}
		err = f(e)
	}
	return err
}

// free wants the list of free pages to be just those that nothing uses: bbolt would
// write over a page that is both.
func (bf *boltFile) free() error {
	flags, b, err := bf.page(bf.meta.freelist)
	if err != nil {
		return err
	}
	n := binary.NativeEndian
	count, at := uint64(n.Uint16(b[10:])), pageHead
	if count == manyFree {
		count, at = n.Uint64(b[at:]), at+8
	}
	if flags != flagFree || count > uint64(len(b)-at)/8 {
		return fmt.Errorf("has a list of %d free pages with flags %#x", count, flags)
	}
	unused := uint64(0)
	for _, t := range bf.taken[2:] {
		if !t {
			unused++
		}
	}
	if count != unused {
		return fmt.Errorf("lists %d pages as free, %d are", count, unused)
	}
	last := uint64(1)
	for ; count > 0; count-- {
		p := n.Uint64(b[at:])
		if p <= last || p >= bf.meta.high || bf.taken[p] {
			return fmt.Errorf("lists page %d as free, which is not", p)
		}
		last, at = p, at+8
	}
	return nil
}
