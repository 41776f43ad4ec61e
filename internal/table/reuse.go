package table

// keptLeases is how many leases are kept for those to come: 28 KiB. More than a
// few dozen that end and begin at one instant are rare.
const keptLeases = 256

// Reuse gives back a lease that has ended and that nobody will look at again,
// neither the caller nor anybody whom the caller told of it: another one may come
// in its place, which is the same pointer. So who locks and releases all the time
// leaves no garbage. A lease that is not given back is none the worse for it.
//
// All of it is forgotten but its Tag, so that what that points to can be used again
// too.
func (t *Table) Reuse(l *Lease) {
	if l.state != Ended || len(t.spare) >= keptLeases {
		return
	}
	*l = Lease{Tag: l.Tag}
	t.spare = append(t.spare, l)
}

// lease returns a lease with nothing in it but perhaps a Tag.
func (t *Table) lease() *Lease {
	last := len(t.spare) - 1
	if last < 0 {
		return new(Lease)
	}
	l := t.spare[last]
	t.spare[last], t.spare = nil, t.spare[:last]
	return l
}
