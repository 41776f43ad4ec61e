package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/datadir"
	"github.com/distributed-go/distributed/server"
)

// What a server does while its disk hangs, and with what it then has not told
// anybody.

// hang makes the disk's syncs wait, until the function that it returns is called.
func (d *memDisk) hang() (goOn func()) {
	hangs := make(chan struct{})
	d.set(func(d *memDisk) { d.hangs = hangs })
	return func() {
		d.set(func(d *memDisk) { d.hangs = nil })
		close(hangs)
	}
}

func TestShutdownOnADiskThatHangs(t *testing.T) {
	onMachine(t, server.Config{}, func(t *testing.T, m *machine) {
		p := connect(m.s)
		token := p.grant(t, "l|k|0")
		goOn := m.disk.hang()
		for _, request := range []string{"l|long|60 600", "l|longer|60 50"} {
			connect(m.s).ask(t, request)
		}
		synctest.Wait()
		why := errors.New("enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Second, why)
		defer cancel()
		began := time.Now()
		if err := m.s.Shutdown(ctx); err != why || time.Since(began) > 5*time.Second+3*time.Second {
			t.Errorf("Shutdown = %v after %v", err, time.Since(began))
		}
		p.closed(t)
		goOn()
		synctest.Wait()
		m.boot() // what was under way got to its end after all
		connect(m.s).expect(t, "n|k|"+token, "ok 33")
	})
}

// TestShutdownWithoutTime writes what is held where the disk does not hang.
func TestShutdownWithoutTime(t *testing.T) {
	onMachine(t, server.Config{}, func(t *testing.T, m *machine) {
		token := connect(m.s).grant(t, "l|k|0")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		m.s.Shutdown(ctx)
		m.boot()
		if st := m.s.Status(); st.State != server.StateReady {
			t.Errorf("status %+v", st)
		}
		connect(m.s).expect(t, "n|k|"+token, "ok 33")
	})
}

func TestSecondShutdown(t *testing.T) {
	var log bytes.Buffer
	cfg := server.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	onMachine(t, cfg, func(t *testing.T, m *machine) {
		connect(m.s).grant(t, "l|k|0")
		for range 2 {
			if err := m.s.Shutdown(t.Context()); err != nil {
				t.Errorf("Shutdown = %v", err)
			}
		}
	})
	if s := log.String(); strings.Count(s, "msg=stopped") != 1 || strings.Contains(s, "error=") {
		t.Errorf("the log says %s", s)
	}
}

func TestBaseTimeoutsOnADiskThatHangs(t *testing.T) {
	onMachine(t, server.Config{}, func(t *testing.T, m *machine) {
		p := connect(m.s)
		token := p.grant(t, "l|k|0")
		goOn := m.disk.hang()
		for _, c := range []struct {
			request, answer string
			after           time.Duration
		}{
			{"l|try|0 50", "timeout", time.Second},
			{"l|try|0 600", "timeout", time.Second},
			{"sl|try|3 2 50", "timeout", 3 * time.Second},
			{"l|wait|4 600", "timeout", 4 * time.Second},
			{"n|k|" + token + " 50", "ok 33", time.Second},
			{"n|k|" + token + " 600", "ok 33", time.Second},
		} {
			began := time.Now()
			p.expect(t, c.request, c.answer)
			if took := time.Since(began); took != c.after {
				t.Errorf("%s was answered after %v, want %v", c.request, took, c.after)
			}
		}
		if r := m.s.Stats(); len(r.Locks) != 1 || len(r.Semaphores) != 0 {
			t.Errorf("left are %v and %v", r.Locks, r.Semaphores)
		}
		goOn()
		p.ask(t, "l|try|0 600")
		p.granted(t, "600")
	})
}

func TestBaseClientsLeaveADiskThatHangs(t *testing.T) {
	onMachine(t, server.Config{}, func(t *testing.T, m *machine) {
		token := connect(m.s).grant(t, "l|k|0")
		defer m.disk.hang()()
		for _, request := range []string{"l|a|100 50", "l|b|100 600", "e|c|50", "e|d|600", "n|k|" + token + " 600"} {
			p := connect(m.s)
			p.ask(t, request)
			synctest.Wait()
			before := m.s.Stats().Connections
			p.nc.Close()
			synctest.Wait()
			if r := m.s.Stats(); r.Connections != before-1 || len(r.Locks) != 1 {
				t.Errorf("after %s: %d connections of %d, %v", request, r.Connections, before, r.Locks)
			}
		}
	})
}

func TestStatusOfADiskThatHangs(t *testing.T) {
	onMachine(t, server.Config{}, func(t *testing.T, m *machine) {
		p, q := connect(m.s), connect(m.s)
		q.grant(t, "l|first|0")
		goOn := m.disk.hang()
		p.ask(t, "l|k|100 50")
		synctest.Wait()
		if st := m.s.Status(); st.State != server.StateReady {
			t.Errorf("at once: %v", st)
		}
		time.Sleep(3 * time.Second)
		if st := m.s.Status(); st.State != server.StateStalled || st.Stalled != 3*time.Second || !st.Serving() ||
			!strings.Contains(st.String(), "stalled") || m.s.Stats().State != "stalled" {
			t.Errorf("after a while: %v, %+v", st, st)
		}
		q.grant(t, "l|short|0")
		goOn()
		p.granted(t, "50")
		if st := m.s.Status(); st.State != server.StateReady || st.Stalled != 0 {
			t.Errorf("afterwards: %v", st)
		}
	})
}

// TestCleanStopForgetsWhatNobodyHeardOf stops a server whose disk was slow, with
// grants that were not told, some of them twice asked for.
func TestCleanStopForgetsWhatNobodyHeardOf(t *testing.T) {
	onMachine(t, server.Config{}, func(t *testing.T, m *machine) {
		a, f := connect(m.s), connect(m.s)
		f.session(t)
		told := a.grant(t, "l|told|0")
		q := connect(m.s)
		first := q.grant(t, "l|ticket|0")
		ticket := connect(m.s)
		ticket.expect(t, "e|ticket|", "queued")
		goOn := m.disk.hang()
		a.ask(t, "l|base|100 600")
		f.ask(t, "1 l|framed|- 600")
		q.expect(t, "r|ticket|"+first, "ok")
		synctest.Wait()
		if n := len(m.s.Stats().Locks); n != 4 {
			t.Fatalf("%d are held", n)
		}
		done := shutdown(t.Context(), m.s)
		pending(t, done)
		if got := a.get(t); got != "error_draining" {
			t.Errorf("got %q", got)
		}
		f.closed(t)
		ticket.expect(t, "w|ticket|0", "error_draining")
		goOn()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		m.boot()
		p := connect(m.s)
		for _, key := range []string{"base", "framed", "ticket"} {
			p.grant(t, "l|"+key+"|0")
		}
		p.expect(t, "l|told|0", "timeout")
		p.expect(t, "n|told|"+told, "ok 33")
	})
}

// TestCloseIsACrash takes long leases of the base protocol for no more released
// than short ones and those of sessions.
func TestCloseIsACrash(t *testing.T) {
	onMachine(t, server.Config{}, func(t *testing.T, m *machine) {
		p, f := connect(m.s), connect(m.s)
		short := p.grant(t, "l|short|0")
		p.ask(t, "l|long|0 600")
		long := p.granted(t, "600")
		f.session(t)
		f.framed(t, "1 l|framed|- 600")
		m.s.Close()
		m.boot()
		p = connect(m.s)
		p.expect(t, "n|short|"+short, "ok 33")
		p.expect(t, "n|long|"+long+" 600", "ok 600")
		time.Sleep(20 * time.Second)
		p.expect(t, "ping|_|_", "ok")
		time.Sleep(20 * time.Second)
		q := connect(m.s)
		q.expect(t, "l|long|0", "timeout")
		q.expect(t, "l|framed|0", "timeout")
	})
}

func TestTooManyLongLeases(t *testing.T) {
	var log bytes.Buffer
	cfg := server.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	onMachine(t, cfg, func(t *testing.T, m *machine) {
		f, p := connect(m.s), connect(m.s)
		f.session(t)
		var all []string
		for i := range datadir.MaxLong {
			all = append(all, fmt.Sprintf("%d l|k%d|- 600", i+1, i))
		}
		go f.send(wire(all...))
		for range all {
			if got := f.get(t); !strings.Contains(got, " ok ") {
				t.Fatalf("got %q", got)
			}
		}
		f.expect(t, "20000 l|more|- 600", "20000 error_max_locks")
		p.expect(t, "l|more|0 600", "error_max_locks")
		p.expect(t, "e|more|600", "error_max_locks")
		p.grant(t, "l|more|0")
	})
	if n := strings.Count(log.String(), "no room for the record"); n != 1 {
		t.Errorf("told %d times: %s", n, &log)
	}
}
