//go:build unix

package supervise

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// A Hold is what a command may run under. *locker.Lease is one.
type Hold interface {
	// Context is cancelled when the command should begin to end.
	Context(parent context.Context) (context.Context, context.CancelFunc)
	// Lost is closed when the hold has ended.
	Lost() <-chan struct{}
	// Deadline is when the hold ends unless it is renewed before.
	Deadline() time.Time
	// Check returns nil while the hold lasts.
	Check() error
}

// An Outcome is what became of a command.
type Outcome struct {
	// Status is how it ended.
	Status Status
	// Lost is why the hold ended, or was about to, before the command did; nil
	// if the hold lasted for as long as anybody of the group was there.
	Lost error
	// Left says that some of the group could not be ended, not even by
	// SIGKILL: they hang in the kernel.
	Left bool
}

// Run starts the command and returns when it, and everybody else in its process
// group, has ended. The error is a *StartError if it did not start.
//
// At the stop instant of the hold the group gets SIGTERM, at its deadline
// SIGKILL; when the hold is lost before its deadline, both, a second apart at
// most. What the command leaves behind in its group gets the same second.
//
// What arrives on signals is forwarded: SIGUSR1 and SIGUSR2 to the command
// alone, because they kill those who do not expect them, the others to the
// whole group, as a terminal does. If ctx ends the group is ended too, with a
// second's grace.
//
// SIGTSTP to this process stops the group too, so that it does not work on
// while nobody renews; once continued, it is only if the hold still lasts.
// Nothing can be done about SIGSTOP, which no process hears.
//
// If the command is interactive it gets the foreground of the terminal, and
// so does one that is stopped because it wanted it.
func Run(ctx context.Context, c Command, hold Hold, signals <-chan os.Signal) (Outcome, error) {
	r := run{ctx: ctx, hold: hold, lost: hold.Lost(), tty: openTerminal(), tstp: make(chan os.Signal, 1)}
	defer r.tty.close()
	if !signal.Ignored(syscall.SIGTSTP) {
		signal.Notify(r.tstp, syscall.SIGTSTP)
		defer signal.Stop(r.tstp)
	}
	if interactive(&c) && r.tty.mine() {
		c.Terminal = r.tty.file
	}
	work, cancel := hold.Context(ctx)
	defer cancel()
	r.plan.renewed(hold.Deadline())
	g, err := Start(c)
	if err != nil {
		if c.Terminal != nil {
			r.tty.set(syscall.Getpgrp()) // a group that does not exist may have it
		}
		return Outcome{}, err
	}
	r.group = g
	r.watch(work, signals)
	r.tty.take(g.Pid())
	return Outcome{Status: g.Status(), Lost: r.why, Left: !g.Empty()}, nil
}

// run is the state of one Run; it belongs to its goroutine.
type run struct {
	ctx   context.Context
	hold  Hold
	lost  <-chan struct{}
	tty   *terminal
	tstp  chan os.Signal
	echo  bool // the next SIGTSTP is one that we sent
	group *Group
	plan  plan
	why   error // why the hold ended, or was about to, before the group did
}

// watch returns when the group has ended, or cannot be.
func (r *run) watch(work context.Context, signals <-chan os.Signal) {
	var (
		stopping = work.Done()
		lost     = r.lost
		ended    = r.group.Ended()
		look     = newAlarm(r.plan.look(time.Now()))
		kill     = newAlarm(time.Time{})
		poll     = newAlarm(time.Time{})
		killed   bool // after the leader had ended
		pause    = time.Millisecond
	)
	defer look.stop()
	defer kill.stop()
	defer poll.stop()
	for {
		select {
		case s := <-signals:
			r.forward(s)
		case <-r.tstp:
			r.paused()
		case s := <-r.group.Stopped():
			r.stopped(s)
		case <-look.C:
			r.learn()
			look.set(r.plan.look(time.Now()))
		case <-stopping:
			stopping = nil
			r.stopping(work)
			kill.set(r.plan.kill)
		case <-lost:
			lost = nil
			r.ask(r.plan.lost(time.Now()), r.hold.Check())
			kill.set(r.plan.kill)
		case <-ended:
			ended = nil
			r.ask(r.plan.finish(time.Now()), r.hold.Check())
			kill.set(r.plan.kill)
			poll.set(time.Now())
		case <-kill.C:
			if ended == nil && killed {
				return // they hang in the kernel, or their parent does not collect them
			}
			killed = ended == nil // the leader is waited for, however long it hangs
			r.group.Kill()
			kill.set(time.Now().Add(grace))
		case <-poll.C:
			if r.group.Empty() {
				r.note(r.hold.Check())
				return
			}
			pause = min(2*pause, 100*time.Millisecond) // a look may be expensive
			poll.set(time.Now().Add(pause))
		}
	}
}

// learn reads the deadline of a hold that lasts: that of a lost one is the
// instant of its loss, which would leave the command no time at all.
func (r *run) learn() {
	if !r.isLost() {
		r.plan.renewed(r.hold.Deadline())
	}
}

func (r *run) isLost() bool {
	select {
	case <-r.lost:
		return true
	default:
		return false
	}
}

// stopping acts on the end of the work's context.
func (r *run) stopping(work context.Context) {
	now := time.Now()
	switch {
	case r.isLost():
		r.ask(r.plan.lost(now), r.hold.Check())
	case r.ctx.Err() != nil:
		r.ask(r.plan.finish(now), nil)
	default:
		r.learn()
		r.ask(r.plan.stopping(now), context.Cause(work))
	}
}

// ask asks the group to end, if that is due, and notes what the hold ended of.
func (r *run) ask(due bool, why error) {
	r.note(why)
	if due {
		r.group.Terminate()
	}
}

func (r *run) note(why error) {
	if r.why == nil {
		r.why = why
	}
}

// forward passes a signal on.
func (r *run) forward(s os.Signal) {
	sig, ok := s.(syscall.Signal)
	switch {
	case !ok:
	case sig == syscall.SIGUSR1 || sig == syscall.SIGUSR2:
		r.group.SignalLeader(sig)
	default:
		r.group.Signal(sig)
	}
}

// An alarm is a timer to an instant, which may be none.
type alarm struct{ *time.Timer }

func newAlarm(at time.Time) alarm {
	a := alarm{time.NewTimer(time.Hour)}
	a.set(at)
	return a
}

// set moves the alarm; the zero time is never.
func (a alarm) set(at time.Time) {
	if at.IsZero() {
		a.Stop()
		return
	}
	a.Reset(time.Until(at))
}

func (a alarm) stop() { a.Stop() }
