//go:build linux

package scale

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/internal/proc"
	"github.com/distributed-go/distributed/locker"
)

var sizeLocks = size.New("size-locks", 20, 500, "locks of each goroutine that a place in etcd's file is measured for")

// TestMeasureEtcdSize says what locks take in an etcd's file, which forgets nothing
// until it is compacted.
func TestMeasureEtcdSize(t *testing.T) {
	const goroutines = 20
	each := sizeLocks.Get()
	var addr string
	proc.Start(t, "etcd", t.TempDir(), &addr)
	ctl, err := clientv3.New(clientv3.Config{Endpoints: []string{addr}, Logger: zap.NewNop()})
	assert.Sure(t, err)
	defer ctl.Close()
	inUse := func() int64 {
		// What is written is in the file after a tenth of a second.
		time.Sleep(time.Second)
		s, err := ctl.Status(t.Context(), addr)
		assert.Sure(t, err)
		return s.DbSizeInUse
	}
	c, err := distributed.Open("etcd://"+addr+"/scale", locker.WithLogger(slog.New(slog.DiscardHandler)))
	assert.Sure(t, err)
	defer c.Close()
	table := figures.NewTable("what", "times", "bytes in etcd's file, each")
	for _, w := range []struct {
		what string
		do   func(g, i int) error
	}{
		{"a lock and an unlock", func(g, _ int) error {
			m := distributed.NewMutex(c, fmt.Sprintf("key-of-the-usual-length-%07d", g))
			if err := m.LockContext(context.Background()); err != nil {
				return err
			}
			return m.UnlockContext(context.Background())
		}},
		{"a lock that is held", func(g, i int) error {
			_, err := c.Acquire(context.Background(), fmt.Sprintf("key-of-the-usual-length-%02d-%04d", g, i))
			return err
		}},
	} {
		before := inUse()
		var wg sync.WaitGroup
		for g := range goroutines {
			wg.Go(func() {
				for i := range each {
					if err := w.do(g, i); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		table.Row(w.what, goroutines*each, float64(inUse()-before)/float64(goroutines*each))
	}
	campaign.Show(t, table)
}
