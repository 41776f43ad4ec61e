package dflockd

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// A journal is what a logger was told, without times: pauses are random in part.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

// logger returns one that writes to the journal.
func (j *journal) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "after" {
			return slog.Attr{}
		}
		return a
	}}))
}

// want compares what was told since the last time with the lines.
func (j *journal) want(t *testing.T, lines ...string) {
	t.Helper()
	synctest.Wait()
	j.mu.Lock()
	defer j.mu.Unlock()
	if got, want := j.text.String(), strings.Join(append(lines, ""), "\n"); got != want {
		t.Errorf("logged\n%swant\n%s", got, want)
	}
	j.text.Reset()
}

// A connection that something depends on is told of when it is lost, once for all
// attempts to have another, and when it is back.
func TestALostConnectionIsLogged(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		const (
			lost = `level=WARN msg="distributed: connection lost, connecting again" server=127.0.0.1:6388 holds=1 error=`
			back = `level=INFO msg="distributed: connected again" server=127.0.0.1:6388 holds=1`
		)
		var down atomic.Bool
		f, j := new(freezer), new(journal)
		ln := &line{freezer: f, serve: s.srv.ServeConn}
		b := s.backendOver(func(ctx context.Context, addr string) (net.Conn, error) {
			if down.Load() {
				return nil, errCut
			}
			return ln.dial(ctx, addr)
		})
		defer locker.New(b, locker.WithLogger(j.logger())).Close()
		g := mustAcquire(t, b, lock("k"))
		time.Sleep(2 * steady)
		j.want(t)

		ln.cut()
		j.want(t, lost+`"io: read/write on closed pipe"`, back)

		time.Sleep(2 * steady)
		f.freeze()
		down.Store(true)
		time.Sleep(12 * time.Second)
		j.want(t, lost+`"the server was silent for too long"`)
		f.thaw()
		down.Store(false)
		time.Sleep(7 * time.Second)
		j.want(t, back)

		mustRelease(t, b, hold("k", g))
		ln.cut()
		time.Sleep(time.Minute)
		j.want(t) // nobody wanted it
	})
}
