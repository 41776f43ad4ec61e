package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/cmd/dlock/internal/supervise"
	"github.com/distributed-go/distributed/locker"
	"github.com/spf13/cobra"
)

// releaseTimeout bounds the release after the command: an unreachable server
// must not keep the caller, and the lease runs out without it.
const releaseTimeout = 2 * time.Second

// lastTryTimeout bounds how long beyond its end a wait goes on to hear who is in
// the way.
const lastTryTimeout = 500 * time.Millisecond

const runHelp = `Run waits for the lock on KEY, runs COMMAND while holding it, and exits with the
command's exit code. With --limit N the command holds one of N slots instead.
A lock and a semaphore of the same name do not exclude each other, so --limit 1
is not the same as no --limit; all users of a KEY must agree on N.

The command is started in a process group of its own, and in the foreground of
the terminal if its input and output are one. It finds in its environment
  DLOCK_KEY     the key
  DLOCK_TOKEN   the token of the hold, a secret: whoever knows it can release
  DLOCK_FENCE   a number that is larger with each holder of the key; pass it to
                the resource and let that refuse smaller ones. Empty where
                holders share the key; with servers that know the base protocol
                only, unless the URL says that they have fences:
                dflockd://host:6388?fences=1

Signals: INT, TERM, HUP, QUIT and WINCH go to the whole group, USR1 and USR2 to
the command alone. What was ignored when dlock began (nohup) stays ignored. The
stop key stops both; continued, the command goes on only if the lock is still
held. SIGSTOP to dlock alone stops nobody but what would end the command in time.

Loss: a sixth of the lease before it would end without a renewal the group gets
SIGTERM, and SIGKILL when it ends. If the servers say that it is gone already, as
after dlock force, the second follows within a second; on the base protocol the
end of the connection says so, too.
When the command ends by itself, what it left behind in its group gets the same
before the lock is released. Only if dlock itself is killed with SIGKILL is there
nobody to do that: then, on Linux, the command dies with it, but not what the
command started. What a command moves to another group or session (setsid, a
daemon) is its own affair.

Exit code:
  the command's own, or 128+n if signal n ended it, or ended the wait
  -E   1 by default: not acquired, because of -n or within -w
   76  the lock was lost while the command ran
  125  bad usage or key; or the servers could not be reached (within -w), or
       refused the request
  126  COMMAND was found but cannot be executed
  127  COMMAND was not found

--json prints one JSON object at the very end, as one line to the descriptor FD,
2 (stderr) if none is given, for scripts that must tell these cases apart even
when the command uses the same codes (none on bad usage):
  key, limit  what was asked for; limit is absent for a lock
  acquired    whether it was held
  waited_s    seconds until it was, or until that was given up
  held_s      seconds from then until the release
  fence       a string of digits, since it may not fit a float; absent if none
  exit_code   that of dlock
  signal      the signal that ended the command; absent if none
  lost        why the lock was lost; absent if it was not
  error       what else went wrong; absent if nothing`

// A runOptions is what the flags of run say.
type runOptions struct {
	conn  connection
	try   bool
	wait  time.Duration
	ttl   time.Duration
	limit int
	code  int
	json  string
}

func (a *app) runCommand() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:                   "run [flags] KEY -- COMMAND [ARG...]",
		Short:                 "Run a command while holding a lock",
		Long:                  runHelp,
		DisableFlagsInUseLine: true,
		Example: examples(
			"dlock run -n nightly-backup -- ./backup.sh",
			"dlock run -w 30s --limit 4 gpu -- python train.py",
			`dlock run --server 'dflockd://h1:6388?fences=1' invoices -- sh -c 'charge --fence "$DLOCK_FENCE"'`),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd, args); err != nil {
				return err
			}
			return a.runLocked(cmd, &o, args[0], args[1:])
		},
	}
	f := cmd.Flags()
	o.conn.addFlags(a, f)
	f.BoolVarP(&o.try, "no-wait", "n", false, "do not wait: exit at once if somebody else holds the lock")
	f.DurationVarP(&o.wait, "wait", "w", 0, "longest wait, as in 30s (default: no end)")
	f.DurationVar(&o.ttl, "ttl", 0, "lease: how soon others get the lock if this machine dies; rounded up to whole seconds where the server knows no others (default: the server's)")
	f.IntVar(&o.limit, "limit", 0, "hold one of `N` slots instead of the lock")
	f.IntVarP(&o.code, "conflict-exit-code", "E", exitFailed, "exit `CODE` when not acquired, 0 to 255")
	f.StringVar(&o.json, "json", "", "print one JSON object at the end, to the file descriptor `FD`")
	f.Lookup("json").NoOptDefVal = "2"
	f.Lookup("json").DefValue = ""
	return cmd
}

// check returns what is wrong with the flags and arguments.
func (o *runOptions) check(cmd *cobra.Command, args []string) error {
	given := cmd.Flags().Changed
	dash := cmd.ArgsLenAtDash()
	switch {
	case dash < 0:
		return usagef("no -- between KEY and COMMAND: dlock cannot tell its own flags from the command's")
	case dash != 1:
		return usagef("want one KEY before the --, not %d", dash)
	case len(args) < 2:
		return usagef("no COMMAND behind the --")
	case o.try && given("wait"):
		return usagef("-n and -w exclude each other")
	case given("wait") && o.wait <= 0:
		return usagef("-w %v: want a wait above zero; -n does not wait", o.wait)
	case o.ttl < 0:
		return usagef("--ttl %v: want a lease above zero", o.ttl)
	case given("limit") && o.limit < 1:
		return usagef("--limit %d: want at least 1", o.limit)
	case o.code < 0 || o.code > 255:
		return usagef("-E %d: want an exit code from 0 to 255", o.code)
	}
	if err := locker.CheckKey(args[0]); err != nil {
		return usagef("%w", err)
	}
	return nil
}

// runLocked acquires the lock, runs the command and releases the lock.
func (a *app) runLocked(cmd *cobra.Command, o *runOptions, key string, argv []string) error {
	report, err := a.openReport(o, key)
	if err != nil {
		return err
	}
	err = a.runReported(cmd.Context(), o, key, argv, report)
	if report.to == nil {
		return err
	}
	// The report comes last, so what there is to say is said before it.
	code := a.report(cmd, err)
	report.write(code, err)
	return &exitError{code: code}
}

func (a *app) runReported(ctx context.Context, o *runOptions, key string, argv []string, report *runReport) error {
	signals := make(chan os.Signal, 16)
	listen(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH)
	defer signal.Stop(signals)
	// A stderr that nobody reads must not end the tool before its time, nor
	// with another code. This lasts until the last word was said.
	listen(make(chan os.Signal, 1), syscall.SIGPIPE)

	var out outages
	trace := out.trace(a, o.conn.url)
	o.conn.anonymous()
	client, err := o.conn.open(a, locker.WithTTL(o.ttl), locker.WithWait(o.wait), locker.WithTrace(trace))
	if err != nil {
		return err
	}
	defer client.Close()
	began := time.Now()
	lease, err := o.acquire(ctx, client, key, &out, signals)
	report.Waited = time.Since(began).Seconds()
	if err != nil {
		return o.refused(key, o.explained(ctx, client, key, err))
	}
	report.acquired(lease)
	held := time.Now()
	err = a.supervise(ctx, lease, argv, signals, report)
	a.release(lease)
	report.Held = time.Since(held).Seconds()
	return err
}

// outages notes that the servers could not be reached, and tells the user once.
type outages struct {
	once sync.Once
	any  atomic.Bool
}

func (u *outages) trace(a *app, url string) *locker.Trace {
	return &locker.Trace{Retrying: func(i locker.RetryingInfo) {
		u.any.Store(true)
		u.once.Do(func() { a.note("cannot reach %s, trying again: %v", url, i.Err) })
	}}
}

// acquire waits for the lease. A signal that would end the tool ends the wait,
// also when it comes together with the lease.
func (o *runOptions) acquire(ctx context.Context, c *distributed.Client, key string, out *outages, signals <-chan os.Signal) (*distributed.Lease, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { interrupt(ctx, cancel, signals) })
	lease, err := o.request(ctx, c, key, o.try)
	if errors.Is(err, locker.ErrLocked) && !o.try {
		lease, err = o.lastTry(ctx, c, key, out, err)
	}
	cancel(nil)
	wg.Wait()
	var i *interrupted
	if errors.As(context.Cause(ctx), &i) {
		return nil, i // closing the client gives the lease back
	}
	return lease, err
}

// lastTry tries once more when the wait is over, to hear who is in the way. An
// outage makes it necessary: the wait may have ended before an answer to the
// attempt under way, and to say that somebody holds the lock, somebody must have
// said so. Otherwise the error of the wait stands if nothing better comes soon.
func (o *runOptions) lastTry(ctx context.Context, c *distributed.Client, key string, out *outages, waited error) (*distributed.Lease, error) {
	if out.any.Load() {
		return o.request(ctx, c, key, true)
	}
	ctx, cancel := context.WithTimeout(ctx, lastTryTimeout)
	defer cancel()
	lease, err := o.request(ctx, c, key, true)
	if err != nil && !errors.Is(err, locker.ErrLocked) {
		return nil, waited
	}
	return lease, err
}

// interrupt cancels at the first signal that would end the tool, and swallows
// the others, until ctx ends.
func interrupt(ctx context.Context, cancel context.CancelCauseFunc, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-signals:
			switch s {
			case syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT:
				cancel(&interrupted{s.(syscall.Signal)})
			}
		}
	}
}

// request acquires what the flags ask for, or tries to.
func (o *runOptions) request(ctx context.Context, c *distributed.Client, key string, try bool) (*distributed.Lease, error) {
	slots := distributed.NewSemaphore(c, key, int64(max(o.limit, 1)))
	switch {
	case o.limit > 0 && try:
		return slots.TryAcquire(ctx, 1)
	case o.limit > 0:
		return slots.Acquire(ctx, 1)
	case try:
		return c.TryAcquire(ctx, key)
	}
	return c.Acquire(ctx, key)
}

// A recoveringError is an ErrLocked of a server that was restarted and grants
// nothing yet.
type recoveringError struct{ ends time.Duration }

func (e *recoveringError) Error() string {
	return fmt.Sprintf("not to be had yet: the server was restarted, and grants nothing for another %s, so that those who held can come back",
		span(e.ends))
}

func (e *recoveringError) Unwrap() error { return locker.ErrLocked }

// explained returns what is known better than that somebody holds the lock, where
// the server did not say who.
func (o *runOptions) explained(ctx context.Context, c *distributed.Client, key string, err error) error {
	var held *locker.HeldError
	inspector, ok := c.Backend().(locker.Inspector)
	if !ok || !errors.Is(err, locker.ErrLocked) || errors.As(err, &held) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, lastTryTimeout)
	defer cancel()
	kind := locker.Exclusive
	if o.limit > 0 {
		kind = locker.Counting
	}
	if r, failed := inspector.Inspect(ctx); failed == nil {
		if ends := graceOf(r, kind.String(), key); ends > 0 {
			return &recoveringError{ends}
		}
	}
	return err
}

// refused turns the error of an acquisition into the tool's.
func (o *runOptions) refused(key string, err error) error {
	var (
		i    *interrupted
		held *locker.HeldError
		soon *recoveringError
	)
	switch {
	case errors.As(err, &i):
		return failf(128+int(i.sig), "%s while waiting for %q", i, key)
	case errors.Is(err, locker.ErrUnavailable):
		return failf(exitUsage, "%w", err)
	case errors.As(err, &held):
		return failf(o.code, "%q is %w", key, held)
	case errors.As(err, &soon):
		return failf(o.code, "%q is %w", key, soon)
	case errors.Is(err, locker.ErrLocked):
		return failf(o.code, "%q is %w", key, locker.ErrLocked)
	}
	return failf(exitUsage, "%w", err)
}

// supervise runs the command under the lease.
func (a *app) supervise(ctx context.Context, lease *distributed.Lease, argv []string, signals <-chan os.Signal, report *runReport) error {
	var start *supervise.StartError
	path, err := supervise.Look(argv[0], a.getenv("PATH"))
	if errors.As(err, &start) {
		return failf(start.ExitCode(), "%w", err)
	}
	out, err := supervise.Run(ctx, supervise.Command{
		Path: path, Args: argv, Env: childEnv(a.env, lease), Stdin: a.stdin, Stdout: a.stdout, Stderr: a.stderr,
	}, lease, signals)
	if errors.As(err, &start) {
		return failf(start.ExitCode(), "%w", err)
	}
	report.ended(out)
	if out.Left {
		a.note("some of what %s started could not be ended", argv[0])
	}
	if out.Lost != nil {
		return failf(exitLost, "lock lost, %s ended (%v): %w", argv[0], out.Status, out.Lost)
	}
	if code := out.Status.ExitCode(); code != 0 {
		return &exitError{code: code}
	}
	return nil
}

// childEnv returns the environment of the command.
func childEnv(env []string, lease *distributed.Lease) []string {
	fence := ""
	if n, ok := lease.Fence(); ok {
		fence = strconv.FormatUint(n, 10)
	}
	var child []string
	for _, e := range env { // dlock in dlock: the outer lock's are not the command's
		if !strings.HasPrefix(e, "DLOCK_KEY=") && !strings.HasPrefix(e, "DLOCK_TOKEN=") && !strings.HasPrefix(e, "DLOCK_FENCE=") {
			child = append(child, e)
		}
	}
	return append(child, "DLOCK_KEY="+lease.Key(), "DLOCK_TOKEN="+lease.Token().Hex(), "DLOCK_FENCE="+fence)
}

// release gives the lock back. What fails here changes no exit code: nobody of
// the group is left, and the lease ends by itself.
func (a *app) release(lease *distributed.Lease) {
	if lease.Check() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	if err := lease.Release(ctx); err != nil {
		a.note("%v; others wait until the lease ends", err)
	}
}
