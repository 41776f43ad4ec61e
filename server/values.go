package server

import (
	"errors"
	"time"

	"github.com/distributed-go/distributed/internal/datadir"
	"github.com/distributed-go/distributed/internal/session"
	"github.com/distributed-go/distributed/internal/table"
)

// A writing is a change of a value on its way to the disk.
type writing struct {
	key   string
	stamp datadir.ValueStamp
	since time.Duration // when it began, as locks.now says
}

// persist begins to write a change, with the mutex held, and says whether it will
// ever be on disk. There instants are those of the wall clock, which alone goes on
// over a restart.
func (k *locks) persist(w session.Write) bool {
	d := k.disk
	var stamp datadir.ValueStamp
	if w.Remove {
		stamp = d.dir.RemoveValue(w.Key, w.Fence)
	} else {
		now := time.Now()
		var until int64
		if w.Keep > 0 {
			until = max(now.Add(w.Keep).UnixMilli(), now.UnixMilli()+1)
		}
		stamp = d.dir.PutValue(w.Key, w.Data, w.Fence, until, now.UnixMilli())
	}
	if _, err := d.dir.ValueDone(stamp); err != nil {
		return false
	}
	d.writes = append(d.writes, writing{w.Key, stamp, k.now()})
	return true
}

// valuesChanged is called by the Dir after each transaction of values, and when one
// has failed: what was on its way is there, or never will be.
func (k *locks) valuesChanged() {
	now := k.enter()
	d := k.disk
	settled := 0
	for _, w := range d.writes {
		done, err := d.dir.ValueDone(w.stamp)
		if !done && err == nil {
			break
		}
		settled++
		k.sessions.Settled(now, []byte(w.key), done)
	}
	clear(d.writes[:settled])
	if d.writes = d.writes[settled:]; len(d.writes) == 0 {
		d.writes = nil // the array behind it grows from the start again
	}
	err := d.valuesErr()
	if d.valuesFailed != nil {
		err = nil
	} else {
		d.valuesFailed = err
	}
	k.leave(now)
	if err != nil {
		k.log.Error("the data directory takes no more values: nothing is put or removed, what is there can be read", "error", err)
	}
}

// valuesErr returns why no value can be written any more, if that is no end of the
// server nor a file system of tests.
func (d *disk) valuesErr() error {
	err := d.dir.ValuesErr()
	if errors.Is(err, datadir.ErrClosed) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

// restoreValues puts back what the last server left. A clock that was set back
// makes no value older than it is: it is as if it had just been put.
func (d *disk) restoreValues(t *table.Table, now time.Duration) int {
	wall := time.Now().UnixMilli()
	for _, v := range d.found.Values {
		value := table.Value{Data: v.Data, Fence: v.Fence, At: now - millis(max(wall-v.At, 0))}
		if v.Until != 0 {
			value.Until = max(now+millis(v.Until-wall), 1)
		}
		t.RestoreValue(now, v.Key, value)
	}
	restored := len(d.found.Values)
	d.found.Values = nil // the table has them
	return restored
}

// millis makes a duration of milliseconds, and keeps within what the table can add.
func millis(n int64) time.Duration {
	const most = int64(longest / time.Millisecond)
	return time.Duration(min(max(n, -most), most)) * time.Millisecond
}
