package session

import (
	"encoding/binary"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/table"
)

// The table has numbers where the wire has digits; codec and table do not know
// of each other.

func toWire(t table.Token) (w codec.Token) {
	binary.BigEndian.PutUint64(w[:8], t.Fence)
	binary.BigEndian.PutUint64(w[8:], t.MAC)
	return w
}

func fromWire(w codec.Token) table.Token {
	return table.Token{Fence: w.Fence(), MAC: binary.BigEndian.Uint64(w[8:])}
}

func kindOf(r *codec.Request) table.Kind {
	if r.Semaphore {
		return table.Semaphore
	}
	return table.Lock
}
