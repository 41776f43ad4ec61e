package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/once"
	"github.com/spf13/cobra"
)

const onceHelp = `Once runs COMMAND if nobody, on whatever machine, ever ran a command under KEY
that exited with 0. Else it exits with 0 at once. While somebody else runs one it
waits: until that has succeeded, or until it has failed, died or lost its lease,
and then one of those who wait runs its own. So an exit code of 0 says that it is
done, by this call or another.

The servers must keep values, as dlock serve and etcd do and a stock dflockd does
not, and keep them over a restart (dlock serve --data-dir, or etcd), unless --volatile says that
another run after their restart will do, or --expire how long one run counts. A
Go program that uses once.New with the same KEY shares what is done.

At most one run is ever marked as done, but more than one may start: after its
machine died, or when a lease was lost. Then it must stand to begin anew, or pass
DLOCK_FENCE on to a resource that refuses smaller ones.

COMMAND is started, signalled and ended as by dlock run, and finds in its
environment
  DLOCK_KEY     the key of the lock: once/KEY, as dlock stats and dlock force say
  DLOCK_TOKEN   the token of the hold, a secret: whoever knows it can release
  DLOCK_FENCE   a number that is larger with each run; empty if the servers have none
If the lock is lost it gets SIGTERM in time, and SIGKILL when the lease ends.

--status says who did it, when and under which fence; with --expire, if that was
not longer ago. --reset undoes that it is done, after it waited for who runs now
(within -w); it says who did it and asks, unless --yes is given.

Exit code:
  0         done, by this call or before
  that of COMMAND, or 128+n if signal n ended it, or ended the wait: not done
  -E   1 by default: still not done within -w, somebody else runs
   76  the lock was lost while the command ran, or as it ended: not done by this
       call, or in doubt if the servers did not answer; the message says which
  125  bad usage or key; done with another --fingerprint; the servers could not be
       reached (within -w), would forget what is done, or refused the request, even
       after COMMAND had succeeded: then it is not done, and the message says so
  126  COMMAND was found but cannot be executed
  127  COMMAND was not found
with --status: 0 if done, 1 if not; with --reset: 0 if undone, 1 if it was not
done or the answer was no; 125 as above

--json prints one JSON object: with --status and --reset to stdout; else at the
very end, as one line to stderr; or to the descriptor FD. Of a run it says
  key, waited_s, held_s, fence, exit_code, signal, lost, error   as dlock run
  acquired    whether it was this call's turn to run COMMAND
  done        whether it is done now, as far as this call knows
and with --status and --reset (there it is what was undone)
  key, done
  by          who did it: host/pid/program; this and what follows are absent if
              it is not done
  at          when, and
  expires     until when that counts, absent if for ever; both by the clock of
              who did it
  fence       a string of digits; absent if none
  fingerprint absent if none`

// onceOptions is what the flags of once say.
type onceOptions struct {
	runOptions  // of which limit and try stay zero
	expire      time.Duration
	fingerprint string
	volatile    bool
	status      bool
	reset       bool
	yes         bool
}

func (a *app) onceCommand() *cobra.Command {
	var o onceOptions
	cmd := &cobra.Command{
		Use:                   "once [flags] KEY -- COMMAND [ARG...]",
		Short:                 "Run a command that succeeds one time for all",
		Long:                  onceHelp,
		DisableFlagsInUseLine: true,
		Example: examples(
			"dlock once migrate/v7 -- ./migrate up",
			"dlock once --expire 24h report -- ./report",
			`dlock once --fingerprint "$(sha256sum <seed.sql)" seed -- psql -f seed.sql`,
			"dlock once --status migrate/v7",
			"dlock once --reset migrate/v7"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(cmd, args); err != nil {
				return err
			}
			switch {
			case o.status:
				return a.onceStatus(cmd.Context(), &o, args[0])
			case o.reset:
				return a.onceReset(cmd.Context(), &o, args[0])
			}
			return a.runOnce(cmd, &o, args[0], args[1:])
		},
	}
	f := cmd.Flags()
	o.conn.addFlags(a, f)
	f.DurationVar(&o.expire, "expire", 0, "how long one run counts, as in 24h (default: for ever)")
	f.StringVar(&o.fingerprint, "fingerprint", "", "`STRING` for what COMMAND works on: done with another one is an error")
	f.BoolVar(&o.volatile, "volatile", false, "accept servers that forget what is done when they restart")
	f.BoolVar(&o.status, "status", false, "say who did it, and when")
	f.BoolVar(&o.reset, "reset", false, "undo that it is done")
	f.BoolVarP(&o.yes, "yes", "y", false, "with --reset: do not ask")
	f.DurationVarP(&o.wait, "wait", "w", 0, "longest wait for others, as in 30s (default: no end)")
	f.DurationVar(&o.ttl, "ttl", 0, "lease: how soon another one runs if this machine dies; rounded up to whole seconds where the server knows no others (default: the server's)")
	f.IntVarP(&o.code, "conflict-exit-code", "E", exitFailed, "exit `CODE` when others run for longer than -w, 0 to 255")
	f.StringVar(&o.json, "json", "", "print one JSON object, to the file descriptor `FD` (default: stderr, or stdout with --status and --reset)")
	f.Lookup("json").NoOptDefVal = jsonAnywhere
	f.Lookup("json").DefValue = ""
	return cmd
}

// jsonAnywhere is --json without a descriptor.
const jsonAnywhere = "-"

// check returns what is wrong with the flags and arguments.
func (o *onceOptions) check(cmd *cobra.Command, args []string) error {
	given := cmd.Flags().Changed
	switch {
	case o.status && o.reset:
		return usagef("--status and --reset exclude each other")
	case o.yes && !o.reset:
		return usagef("--yes is for --reset")
	case given("expire") && o.expire <= 0:
		return usagef("--expire %v: want a time above zero", o.expire)
	}
	asks := o.status || o.reset
	if o.json == jsonAnywhere && asks {
		o.json = "1"
	} else if o.json == jsonAnywhere {
		o.json = "2"
	}
	if !asks {
		return o.runOptions.check(cmd, args)
	}
	switch {
	case cmd.ArgsLenAtDash() >= 0 && cmd.ArgsLenAtDash() < len(args):
		return usagef("--status and --reset run no COMMAND")
	case len(args) != 1:
		return usagef("want one KEY, not %d", len(args))
	case given("wait") && o.wait <= 0:
		return usagef("-w %v: want a wait above zero", o.wait)
	}
	if err := locker.CheckKey(args[0]); err != nil {
		return usagef("%w", err)
	}
	return nil
}

// of returns the Once that the flags ask for.
func (o *onceOptions) of(c *distributed.Client, key string) *once.Once {
	opts := []once.Option{once.WithExpiry(o.expire), once.WithFingerprint(o.fingerprint), once.WithLease(locker.WithWait(o.wait))}
	if o.volatile {
		opts = append(opts, once.WithVolatile())
	}
	return once.New(c, key, opts...)
}

// A onceReport is what once --json prints of a run; onceHelp explains the fields.
type onceReport struct {
	runReport
	Done bool `json:"done"`
}

// runOnce runs the command, unless it is done.
func (a *app) runOnce(cmd *cobra.Command, o *onceOptions, key string, argv []string) error {
	run, err := a.openReport(&o.runOptions, key)
	if err != nil {
		return err
	}
	report := &onceReport{runReport: *run}
	err = a.onceReported(cmd.Context(), o, key, argv, report)
	if report.to == nil {
		return err
	}
	// The report comes last, so what there is to say is said before it.
	code := a.report(cmd, err)
	report.close(code, err)
	_ = json.NewEncoder(report.to).Encode(report) // nobody is left to be told
	return &exitError{code: code}
}

func (a *app) onceReported(ctx context.Context, o *onceOptions, key string, argv []string, report *onceReport) error {
	signals := make(chan os.Signal, 16)
	listen(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH)
	defer signal.Stop(signals)
	listen(make(chan os.Signal, 1), syscall.SIGPIPE) // as in run

	var out outages
	o.conn.anonymous()
	client, err := o.conn.open(a, locker.WithTTL(o.ttl), locker.WithTrace(out.trace(a, o.conn.url)))
	if err != nil {
		return err
	}
	defer client.Close()

	// Signals end the wait, and then go to the command.
	wait, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	waiting, waited := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { interrupt(waiting, cancel, signals) })
	over := func() {
		waited()
		wg.Wait()
	}
	defer over()
	began := time.Now()
	err = o.of(client, key).Do(wait, func(work context.Context) error {
		over()
		if wait.Err() != nil {
			return context.Cause(wait)
		}
		lease := once.LeaseOf(work)
		report.Waited = time.Since(began).Seconds()
		report.acquired(lease)
		held := time.Now()
		defer func() { report.Held = time.Since(held).Seconds() }()
		return a.supervise(ctx, lease, argv, signals, &report.runReport) // it ends the command by the lease, not by work
	})
	report.Done = err == nil
	if !report.Acquired {
		report.Waited = time.Since(began).Seconds()
	}
	if errors.Is(err, locker.ErrLocked) && !report.Acquired && wait.Err() == nil {
		err = o.inTheWay(ctx, client, key, &out, err)
	}
	return o.verdict(key, argv[0], err, report)
}

// inTheWay finds out who made a wait last too long: one that ends by itself does not
// hear of that. After an outage the answer may also be that nobody can be reached,
// as with lastTry.
func (o *onceOptions) inTheWay(ctx context.Context, c *distributed.Client, key string, out *outages, waited error) error {
	ctx, cancel := context.WithTimeout(ctx, lastTryTimeout)
	defer cancel()
	lease, err := c.TryAcquire(ctx, once.Prefix+key)
	switch {
	case err == nil:
		_ = lease.ReleaseWithin(0) // it was let go just now, and our time is over
		return waited
	case errors.Is(err, locker.ErrLocked) || out.any.Load():
		return err
	}
	return waited
}

// verdict turns the error of a Once into the tool's.
func (o *onceOptions) verdict(key, command string, err error, report *onceReport) error {
	var (
		exit *exitError
		i    *interrupted
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit): // of the command
		return exit
	case errors.As(err, &i):
		return failf(128+int(i.sig), "%s while waiting for %q", i, key)
	case report.Acquired && errors.Is(err, once.ErrInDoubt):
		return failf(exitLost, "%s succeeded, and nobody knows whether %q was marked as done (see dlock once --status): %w", command, key, err)
	case report.Acquired && errors.Is(err, locker.ErrLost):
		report.Lost = err.Error()
		return failf(exitLost, "%s succeeded, but the lock was lost before %q was marked as done: it is not done: %w", command, key, err)
	case report.Acquired:
		return failf(exitUsage, "%s succeeded, but %q could not be marked as done: %w", command, key, err)
	}
	return o.asked(key, err)
}

// asked turns the error of a question, or of a wait, into the tool's.
func (o *onceOptions) asked(key string, err error) error {
	var (
		i     *interrupted
		other *once.FingerprintError
	)
	switch {
	case errors.As(err, &i):
		return failf(128+int(i.sig), "%w", i)
	case errors.As(err, &other):
		return failf(exitUsage, "%q is %w", key, other)
	case errors.Is(err, once.ErrVolatile):
		return failf(exitUsage, "the servers forget that %q is done when they restart: give them a data directory (dlock serve --data-dir), or accept it by --volatile or --expire", key)
	case errors.Is(err, errors.ErrUnsupported):
		return failf(exitUsage, "the servers keep no values, as stock dflockd servers, so they cannot remember that %q is done: use dlock serve, or etcd", key)
	case errors.Is(err, locker.ErrInvalid):
		return usagef("%w", err)
	}
	return o.refused(key, err)
}
