package table

import "testing"

func TestRecordsLeaveOutWhatIsWithheld(t *testing.T) {
	b := newBench(t)
	o := b.NewSession(1)
	l := b.ask(lock(o, "k"), Granted)
	for _, c := range []struct {
		what   string
		change func()
		want   int
	}{
		{"granted", func() {}, 1},
		{"withheld", func() { b.Withhold(l) }, 0},
		{"told", func() { b.Told(l) }, 1},
		{"withheld again", func() { b.Withhold(l) }, 0},
		{"after a beat", func() { b.Beat(b.at, o) }, 0},
		{"renewed", func() { _, _ = b.Renew(b.at, Lock, []byte("k"), l.Token(), l.TTL()) }, 1},
	} {
		if c.change(); len(b.Records(b.at)) != c.want {
			t.Errorf("%s: records %v", c.what, b.Records(b.at))
		}
	}
	queued := b.ask(lock(o, "k"), Queued)
	b.Withhold(queued)
	if err := b.Release(b.at, Lock, []byte("k"), l.Token()); err != nil || len(b.Records(b.at)) != 1 {
		t.Errorf("a lease that was queued when it was withheld: %v, %v", err, b.Records(b.at))
	}
}
