package server

import (
	"testing"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/session"
	"github.com/distributed-go/distributed/internal/table"
)

func TestSignerCoversAllThatATokenStandsFor(t *testing.T) {
	sign, other := newSigner([]byte("secret")), newSigner([]byte("another"))
	base := sign(table.Lock, "key", 1, 2, 3)
	if again := sign(table.Lock, "key", 1, 2, 3); again != base {
		t.Errorf("signed twice: %x and %x", base, again)
	}
	for what, mac := range map[string]uint64{
		"kind": sign(table.Semaphore, "key", 1, 2, 3), "key": sign(table.Lock, "kez", 1, 2, 3), "longer key": sign(table.Lock, "key\x00", 1, 2, 3),
		"fence": sign(table.Lock, "key", 2, 2, 3), "limit": sign(table.Lock, "key", 1, 3, 3), "weight": sign(table.Lock, "key", 1, 2, 4),
		"order": sign(table.Lock, "key", 2, 1, 3), "server": other(table.Lock, "key", 1, 2, 3),
	} {
		if mac == base {
			t.Errorf("another %s, the same MAC", what)
		}
	}
	if n := testing.AllocsPerRun(100, func() { sign(table.Lock, "key", 1, 2, 3) }); n != 0 {
		t.Errorf("signing allocates %v times", n)
	}
}

func TestTokensOnTheWire(t *testing.T) {
	tok := table.Token{Fence: 0x0123456789abcdef, MAC: 0xfedcba9876543210}
	w := session.ToWire(tok)
	if got := string(w.AppendHex(nil)); got != "0123456789abcdeffedcba9876543210" {
		t.Errorf("on the wire it is %s", got)
	}
	if got := session.FromWire(w); got != tok {
		t.Errorf("and back %x", got)
	}
	if session.FromWire(codec.Token{}) != (table.Token{}) {
		t.Error("zeros are not zeros")
	}
}

func TestFirstFence(t *testing.T) {
	for name, c := range map[string]struct {
		now  time.Time
		want uint64
	}{
		"now":         {time.Unix(1_800_000_000, 5), 1_800_000_000_000_000_005},
		"1970":        {time.Unix(0, 0), 0},
		"before 1970": {time.Unix(-1, 0), 0},
		"2262":        {time.Date(2262, 4, 11, 0, 0, 0, 0, time.UTC), 9223286400000000000},
	} {
		if got := firstFence(c.now); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func BenchmarkSigner(b *testing.B) {
	for _, key := range []string{"key-12", "orders/2024/11/25/12345678"} {
		b.Run(key[:3], func(b *testing.B) {
			sign := newSigner([]byte("secret"))
			b.ReportAllocs()
			for b.Loop() {
				sign(table.Lock, key, 1, 2, 3)
			}
		})
	}
}
