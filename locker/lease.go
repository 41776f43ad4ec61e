package locker

// A Lease is one hold.
type Lease struct{}

func (l *Lease) lose(error) {}
