//go:build unix

package supervise

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

// dropped is how long a stop signal that this process sends itself may take. If
// nothing has stopped it by then the system has dropped the signal.
const dropped = 100 * time.Millisecond

// paused acts on a SIGTSTP to this process.
func (r *run) paused() {
	if r.echo {
		r.echo = false
		return
	}
	r.group.Signal(syscall.SIGSTOP)
	r.suspend(false)
}

// stopped acts on a leader that was stopped. One that wanted the terminal gets
// it if it is ours. Otherwise, and when the user pressed the key for it, our
// own job stops with it: a shell that waits for us would wait for ever. Without
// a terminal whoever stopped it had a reason, and continues it.
func (r *run) stopped(sig syscall.Signal) {
	if r.tty == nil || sig == syscall.SIGSTOP {
		return
	}
	wanted := sig == syscall.SIGTTIN || sig == syscall.SIGTTOU
	if wanted && r.tty.give(r.group.Pid()) {
		r.group.Signal(syscall.SIGCONT)
		return
	}
	r.tty.take(r.group.Pid())
	r.suspend(true)
}

// suspend stops this process, and with job everybody else in its process group,
// until it is continued, and then continues the command's group if the hold
// still lasts. If it does not, what ends the hold ends that group, which has not
// run in between.
func (r *run) suspend(job bool) {
	r.stopSelf(job)
	if r.hold.Check() != nil {
		return
	}
	r.tty.give(r.group.Pid())
	r.group.Signal(syscall.SIGCONT)
}

// stopSelf returns when this process was stopped and continued. It sends
// SIGTTIN and not SIGTSTP, which package os/signal does not give its default
// effect back once it was caught, and not SIGSTOP: a job that no shell could
// continue is not stopped by the former, but by the latter, for ever.
func (r *run) stopSelf(job bool) {
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, syscall.SIGCONT)
	defer signal.Stop(continued)
	if job {
		r.echo = true
		_ = syscall.Kill(0, syscall.SIGTSTP) // for the rest of the job; we catch it
	}
	_ = syscall.Kill(syscall.Getpid(), syscall.SIGTTIN)
	select {
	case <-continued:
	case <-time.After(dropped):
	}
}
