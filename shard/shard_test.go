package shard

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// counts are the lengths of lists that the golden values were computed for.
var counts = []int{1, 2, 3, 5, 7, 16}

// TestCRC32Golden holds values of Python's zlib.crc32(key.encode()) % n, which
// is what the official client computes.
func TestCRC32Golden(t *testing.T) {
	for _, c := range []struct {
		key  string
		want []int
	}{
		{"my-key", []int{0, 1, 2, 2, 1, 1}},
		{"", []int{0, 0, 0, 0, 0, 0}},
		{"a", []int{0, 1, 0, 2, 4, 3}},
		{"invoices", []int{0, 1, 1, 4, 5, 5}},
		{"schlüssel-鍵", []int{0, 0, 2, 0, 2, 2}},
		{"key-0", []int{0, 0, 0, 0, 6, 12}},
		{"key-1", []int{0, 0, 2, 3, 0, 10}},
		{strings.Repeat("x", 256), []int{0, 0, 2, 0, 4, 0}},
		{"orders/2024/07", []int{0, 0, 2, 4, 4, 2}},
	} {
		checkGolden(t, "CRC32", CRC32, c.key, c.want)
	}
}

// TestRendezvousGolden holds values computed by a second implementation, in
// Python, from the words of Rendezvous's documentation.
func TestRendezvousGolden(t *testing.T) {
	for _, c := range []struct {
		key  string
		want []int
	}{
		{"my-key", []int{0, 0, 0, 0, 0, 0}},
		{"", []int{0, 0, 0, 0, 5, 5}},
		{"a", []int{0, 1, 1, 1, 1, 1}},
		{"invoices", []int{0, 0, 0, 0, 6, 8}},
		{"schlüssel-鍵", []int{0, 1, 1, 3, 3, 10}},
		{"key-0", []int{0, 1, 1, 1, 1, 9}},
		{"key-1", []int{0, 1, 1, 1, 1, 1}},
		{"orders/2024/07", []int{0, 1, 2, 4, 4, 15}},
	} {
		checkGolden(t, "Rendezvous", Rendezvous, c.key, c.want)
	}
}

func checkGolden(t *testing.T, name string, f Func, key string, want []int) {
	t.Helper()
	for i, n := range counts {
		if got := f(key, n); got != want[i] {
			t.Errorf("%s(%.20q, %d) = %d, want %d", name, key, n, got, want[i])
		}
	}
}

func TestRendezvousMovesOneKeyInN(t *testing.T) {
	const keys = 5000
	for n := 1; n <= 9; n++ {
		moved, elsewhere := 0, 0
		for i := range keys {
			key := fmt.Sprint("key/", i)
			before, after := Rendezvous(key, n), Rendezvous(key, n+1)
			if before != after {
				moved++
				if after != n {
					elsewhere++
				}
			}
		}
		if elsewhere != 0 {
			t.Errorf("%d to %d servers: %d keys moved between old servers", n, n+1, elsewhere)
		}
		// Five standard deviations of a binomial with 5,000 trials are below 180.
		if want := keys / (n + 1); moved < want-180 || moved > want+180 {
			t.Errorf("%d to %d servers: %d of %d keys moved, want about %d", n, n+1, moved, keys, want)
		}
	}
}

func TestFuncsSpreadKeysEvenly(t *testing.T) {
	const keys = 6000
	for name, f := range map[string]Func{"CRC32": CRC32, "Rendezvous": Rendezvous} {
		for _, n := range []int{1, 2, 3, 7} {
			got := make([]int, n)
			for i := range keys {
				got[f(fmt.Sprintf("order-%06d", i), n)]++
			}
			for i, c := range got {
				// Sequential keys are not random draws: a tenth of slack.
				if want := keys / n; c < want*9/10 || c > want*11/10 {
					t.Errorf("%s over %d servers: server %d has %d keys, want about %d", name, n, i, c, want)
				}
			}
		}
	}
}

func TestPickRefusesAnIndexOutOfRange(t *testing.T) {
	for _, bad := range []int{-1, 3, 1 << 30} {
		_, err := Pick(func(string, int) int { return bad }, "my key", 3)
		var re *RangeError
		if !errors.As(err, &re) || !errors.Is(err, ErrRange) {
			t.Fatalf("index %d: error %v, want a *RangeError", bad, err)
		}
		if re.Key != "my key" || re.Index != bad || re.Servers != 3 {
			t.Errorf("index %d: fields %+v", bad, re)
		}
		for _, want := range []string{`"my key"`, fmt.Sprint(bad), "from 0 to 2"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error %q does not name %q", err, want)
			}
		}
	}
}

func TestPickPassesOnKeyAndNumberOfServers(t *testing.T) {
	f := func(key string, servers int) int {
		if key != "k" || servers != 4 {
			t.Errorf("called with %q and %d", key, servers)
		}
		return 3
	}
	if i, err := Pick(f, "k", 4); i != 3 || err != nil {
		t.Errorf("Pick = %d, %v", i, err)
	}
}

func TestPickWithoutFuncIsCRC32(t *testing.T) {
	if i, err := Pick(nil, "my-key", 3); i != 2 || err != nil {
		t.Errorf("Pick = %d, %v; want 2", i, err)
	}
}

func TestPickWithoutServersIsAnError(t *testing.T) {
	for _, n := range []int{0, -1} {
		if _, err := Pick(CRC32, "k", n); err == nil || !strings.Contains(err.Error(), `"k"`) {
			t.Errorf("%d servers: error %v", n, err)
		}
	}
}

func TestFuncsAllocateNothing(t *testing.T) {
	key := strings.Repeat("k", 200)
	for name, f := range map[string]Func{"CRC32": CRC32, "Rendezvous": Rendezvous} {
		if n := testing.AllocsPerRun(100, func() { f(key, 7) }); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func FuzzFuncsStayInRange(f *testing.F) {
	f.Add("my-key", 3)
	f.Add("", 1)
	f.Add("\xff\x00", 1<<20)
	f.Fuzz(func(t *testing.T, key string, n int) {
		if n < 1 || n > 1<<20 {
			n = n&0xffff + 1
		}
		for _, fn := range []Func{CRC32, Rendezvous} {
			if _, err := Pick(fn, key, n); err != nil {
				t.Error(err)
			}
		}
	})
}

func BenchmarkCRC32(b *testing.B) {
	for b.Loop() {
		CRC32("invoices/2024-07", 3)
	}
}

func BenchmarkRendezvous(b *testing.B) {
	for b.Loop() {
		Rendezvous("invoices/2024-07", 3)
	}
}
