package table

// Told says that the holder of a granted lease has heard of it, or is about to:
// Records has it from here on. Leases that were not asked for as tickets begin so.
func (t *Table) Told(l *Lease) { l.marks &^= ticket }

// Withhold says that nobody has heard of a granted lease yet, so that Records
// leaves it out until Told, Collect or Renew.
func (t *Table) Withhold(l *Lease) {
	if l.state == Granted {
		l.marks |= ticket
	}
}
