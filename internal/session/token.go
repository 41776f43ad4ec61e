package session

import (
	"encoding/binary"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/table"
)

// The table has numbers where the wire has digits, and codec and table do not
// know of each other. Who serves both translates with these.

// ToWire returns the token of a lease as it is sent.
func ToWire(t table.Token) (w codec.Token) {
	binary.BigEndian.PutUint64(w[:8], t.Fence)
	binary.BigEndian.PutUint64(w[8:], t.MAC)
	return w
}

// FromWire returns what a token that was received names in the table.
func FromWire(w codec.Token) table.Token {
	return table.Token{Fence: w.Fence(), MAC: binary.BigEndian.Uint64(w[8:])}
}

// KindOf returns the name space that a request is about.
func KindOf(r *codec.Request) table.Kind {
	if r.Semaphore {
		return table.Semaphore
	}
	return table.Lock
}
