package datadir

// The faults are bugs planted to show that the tests find them. They are
// unexported and nothing but a test sets them, so that none can be switched on
// from outside the package.
type faults struct {
	noSync         bool // updates are not synced
	noDirSync      bool // names are not synced
	oneSlot        bool // updates go to state-a alone
	pingPong       bool // updates go to the two files in turn
	unchecked      bool // checksums are ignored
	olderWins      bool // of two whole files the older one counts
	missingIsEmpty bool // a missing file is a first use
	identityFirst  bool // creation makes the identity before the rest
	noSettle       bool // a start does not make both slots equal and synced
	syncAgain      bool // a sync that failed is tried again
	staysClean     bool // a start does not take the clean stop back
	ceilingEarly   bool // fences count before they are on disk
	clockAlone     bool // a start's fences begin at the wall clock
	lowerEarly     bool // the mark falls while leases need it
	lowerForgets   bool // a falling mark still lets leases in
	noCarry        bool // the mark falls while leases of earlier starts need it
	recordEarly    bool // a record counts before it is on disk
	cleanInGrace   bool // a stop is clean while leases of earlier starts are out

	valuesUnchecked bool // checksums of values and of their head are ignored
	fallBack        bool // one whole first page of values.db is enough, as for bbolt
	missingValues   bool // a missing values.db is a first use
	olderValues     bool // an older values.db is taken
	noValuesSync    bool // transactions of values are not synced
	valuesEarly     bool // a put counts before it is on disk
	slotsFirst      bool // a start is written in the slots before values.db
	noSums          bool // the head's sum over all values, and its number, are ignored
}

// believed is which of two whole slots counts with faults that the rules would
// not let pass.
func (fl *files) believed(f faults) *slot {
	a, b := fl.slots[0], fl.slots[1]
	if (a.generation < b.generation) != f.olderWins {
		return b
	}
	return a
}
