package session

import (
	"testing"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/table"
)

// A counter counts what it is told.
type counter struct{ lines int }

func (m *counter) Answer(*codec.Answer) { m.lines++ }
func (m *counter) Report(uint64)        {}
func (m *counter) Close()               {}

// BenchmarkPutForAThousand measures a put that a thousand sessions wait for, and
// their joins before it.
func BenchmarkPutForAThousand(b *testing.B) {
	w := newWorld(0, serverFaults{}, clientFaults{})
	out := &counter{}
	hello := func() *Link {
		l, _ := w.server.Hello(w.now, 0, &codec.Greeting{Version: 1, Name: "somebody"}, out)
		return l
	}
	leader, joiners := hello(), make([]*Link, 1000)
	for i := range joiners {
		joiners[i] = hello()
	}
	w.server.Request(w.now, leader, &codec.Request{ID: 1, Command: codec.Lock, Key: []byte("k"), TTL: time.Hour})
	var token codec.Token
	leader.session.owner.Leases(func(l *table.Lease) bool { token = ToWire(l.Token()); return true })
	put := codec.Request{Command: codec.Put, Key: []byte("k"), Token: token, Value: make([]byte, codec.DefaultValue)}
	join := joinOf(0, "k", 0)
	beat := codec.Request{Command: codec.Beat}
	id := uint64(1)
	b.ReportAllocs()
	for b.Loop() {
		id++
		join.ID = id
		for _, l := range joiners {
			w.server.Request(w.now, l, &join)
		}
		before := out.lines
		id++
		put.ID, beat.ID = id, id
		w.server.Request(w.now, leader, &put)
		if out.lines != before+len(joiners)+1 {
			b.Fatalf("%d answers", out.lines-before)
		}
		for _, l := range joiners {
			w.server.Request(w.now, l, &beat)
		}
		id++
		beat.ID = id
		w.server.Request(w.now, leader, &beat)
	}
}
