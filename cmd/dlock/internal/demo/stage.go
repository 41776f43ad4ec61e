package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/distributed-go/distributed/cmd/dlock/internal/supervise"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/server"
)

// A Start starts a worker with these arguments for Work.
type Start func(args []string, stdin, stdout, stderr *os.File) (*supervise.Group, error)

// A Stage is what a row plays on. It belongs to one goroutine, but for
// Processes and Records.
type Stage struct {
	at      Venue
	forget  []func() error // what is done at the end; for an etcd, which stays
	dir     string
	start   Start
	journal *journal
	stderr  *os.File // of the workers
	servers []*embedded
	workers []*Worker
	count   atomic.Int64 // of workers
}

// newStage sets a stage: a directory for files, and nobody on it yet.
func newStage(at Venue, start Start) (_ *Stage, err error) {
	s := &Stage{at: at, start: start}
	if s.dir, err = os.MkdirTemp("", "dlock-demo-"); err != nil {
		return nil, err
	}
	if s.stderr, err = os.Create(s.File("stderr")); err == nil {
		s.journal, err = newJournal()
	}
	if err != nil {
		os.RemoveAll(s.dir)
		return nil, err
	}
	return s, nil
}

// File returns the path of a file on the stage.
func (s *Stage) File(name string) string { return filepath.Join(s.dir, name) }

// Processes returns how many workers were started.
func (s *Stage) Processes() int { return int(s.count.Load()) }

// Records returns what the journal says so far.
func (s *Stage) Records() []Record {
	r, _, _ := s.journal.since(0)
	return r
}

// Note writes into the journal what the demo is about to do to a worker.
func (s *Stage) Note(event string, w *Worker) error {
	return s.journal.note(Record{Event: event, N: w.id})
}

// settled returns the records once no process can add any: the workers have
// been told to end, and have ended.
func (s *Stage) settled() ([]Record, error) {
	for _, w := range s.workers {
		w.stdin.Close() // it ends when it is told nothing more
	}
	var faults []error
	for _, w := range s.workers {
		faults = append(faults, w.ended())
	}
	s.journal.close()
	records, _, err := s.journal.since(0)
	return records, errors.Join(append(faults, err)...)
}

// close ends everybody and leaves nothing.
func (s *Stage) close() error {
	for _, w := range s.workers {
		w.kill()
	}
	s.journal.close()
	for _, e := range s.servers {
		e.close()
	}
	var faults []error
	for _, f := range s.forget {
		faults = append(faults, f())
	}
	s.stderr.Close()
	return errors.Join(append(faults, os.RemoveAll(s.dir))...)
}

// An embedded server is one in this process.
type embedded struct {
	*server.Server
	address string
	served  chan error
}

// Serve returns the URL of a server that is started on a free port of this machine,
// or of a place of its own in the etcd.
func (s *Stage) Serve() (url string, err error) { return s.serve(server.Config{}) }

// ServeLasting is Serve with a data directory, which the next of them finds again;
// the last must have crashed.
func (s *Stage) ServeLasting() (url string, err error) {
	return s.serve(server.Config{DataDir: s.File("data")})
}

func (s *Stage) serve(cfg server.Config) (url string, err error) {
	if s.at.Etcd != "" {
		return s.at.url()
	}
	address, err := s.listen(cfg)
	return urlOf(address), err
}

// Done says that a Once will be done at servers that stay. It is undone at the end.
func (s *Stage) Done(url, key string) {
	if s.at.Etcd != "" {
		s.forget = append(s.forget, func() error { return s.at.forget(url, key) })
	}
}

// listen starts a server of our own and returns its address.
func (s *Stage) listen(cfg server.Config) (address string, err error) {
	cfg.Logger = slog.New(slog.DiscardHandler)
	srv, err := server.New(cfg)
	if err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	e := &embedded{Server: srv, address: l.Addr().String(), served: make(chan error, 1)}
	go func() { e.served <- srv.Serve(l) }()
	s.servers = append(s.servers, e)
	return e.address, nil
}

// Crash ends the server that was started last, with nothing put in order.
func (s *Stage) Crash() {
	last := len(s.servers) - 1
	s.servers[last].close()
	s.servers = s.servers[:last]
}

func (e *embedded) close() {
	_ = e.Close() // its connections break, which is what is wanted
	<-e.served
}

// urlOf returns the URL of servers, whose tokens have fences.
func urlOf(addresses ...string) string {
	return "dflockd://" + strings.Join(addresses, ",") + "?fences=1"
}

// inspect asks servers what they know until enough does.
func (s *Stage) inspect(ctx context.Context, url string, enough func(locker.Report) bool) (locker.Report, error) {
	c, err := s.at.Open.open(url)
	if err != nil {
		return locker.Report{}, err
	}
	defer c.Close()
	for {
		report, err := c.Inspect(ctx)
		if err != nil || enough(report) {
			return report, err
		}
		select {
		case <-ctx.Done():
			return report, fmt.Errorf("inspecting %s: %w", url, context.Cause(ctx))
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// awaitWaiters waits until the server knows n waiters of a lock: then the last
// who asked has its place in the queue.
func (s *Stage) awaitWaiters(ctx context.Context, url, key string, n int) error {
	_, err := s.inspect(ctx, url, func(r locker.Report) bool {
		return slices.ContainsFunc(r.Keys, func(k locker.KeyReport) bool {
			return k.Kind == locker.Exclusive.String() && k.Key == key && k.Waiters >= n
		})
	})
	if err != nil {
		return fmt.Errorf("waiting for %d waiters of %s: %w", n, key, err)
	}
	return nil
}

// complaint returns the first thing that a worker printed on stderr.
func (s *Stage) complaint() string {
	text, _ := os.ReadFile(s.File("stderr"))
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}
