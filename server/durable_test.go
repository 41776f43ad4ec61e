package server

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkAdmit measures what a data directory adds to a grant that need not wait
// for it: the questions whether the TTL and the fence are covered, and the one
// whether to ask for more fences.
func BenchmarkAdmit(b *testing.B) {
	s, err := New(Config{DataDir: filepath.Join(b.TempDir(), "data"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	k := s.locks
	now := k.enter()
	stamp, err := k.admit(10*time.Second, 1)
	k.leave(now)
	if err != nil || k.disk.dir.Wait(b.Context(), stamp) != nil {
		b.Fatal(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for b.Loop() {
		if stamp, err := k.admit(10*time.Second, 1); stamp != 0 || err != nil {
			b.Fatal(stamp, err)
		}
		k.disk.reserve(k.table)
	}
}
