package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/mutex"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

const forceHelp = `Force takes the lock on KEY away from whoever holds it, and the next in the queue
gets it. The holder is told that its lease was revoked, if it can be reached; it
may work on until it notices, and only a resource that compares fences is safe
from it: the fence of the next holder is larger. The server logs who did this.

It says who holds KEY, and asks, unless --yes is given. With --semaphore all
slots of the semaphore KEY are taken away, with --rw the RWMutex KEY from its
writer or all its readers.

Exit code: 0 if a hold was ended; 1 if nobody held KEY, or the answer was no; 125
on bad usage, or if the servers could not be reached or cannot do this.`

// forceOptions is what the flags of force say.
type forceOptions struct {
	conn      connection
	yes       bool
	semaphore bool
	rw        bool
	json      bool
}

// A forceReport is what force --json prints.
type forceReport struct {
	Kind string `json:"kind"`
	Key  string `json:"key"`
	// Ended counts the holds that were ended.
	Ended int `json:"ended"`
}

func (a *app) forceCommand() *cobra.Command {
	var o forceOptions
	cmd := &cobra.Command{
		Use:     "force [flags] KEY",
		Short:   "Take a lock away from its holder",
		Long:    forceHelp,
		Example: examples("dlock force nightly-backup", "dlock force --yes --semaphore gpu"),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("want one KEY, not %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			key := o.key(args[0])
			if err := locker.CheckKey(key); err != nil {
				return usagef("%w", err)
			}
			if !o.yes && !a.asks() {
				return usagef("there is no terminal to ask on: say --yes to take %q away", args[0])
			}
			return a.force(cmd.Context(), &o, key)
		},
	}
	f := cmd.Flags()
	o.conn.addFlags(a, f)
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	f.BoolVar(&o.semaphore, "semaphore", false, "KEY is a semaphore, not a lock")
	f.BoolVar(&o.rw, "rw", false, "KEY is an RWMutex: the semaphore "+mutex.RWPrefix+"KEY")
	f.BoolVar(&o.json, "json", false, "print one JSON object: kind, key, and how many holds were ended")
	return cmd
}

// key is what the servers call the key.
func (o *forceOptions) key(key string) string {
	if o.rw {
		return mutex.RWPrefix + key
	}
	return key
}

func (o *forceOptions) kind() locker.Kind {
	if o.semaphore || o.rw {
		return locker.Counting
	}
	return locker.Exclusive
}

// asks says whether there is somebody to ask.
func (a *app) asks() bool {
	return term.IsTerminal(int(a.stdin.Fd())) && term.IsTerminal(int(a.stderr.Fd()))
}

func (a *app) force(ctx context.Context, o *forceOptions, key string) error {
	if !o.yes {
		if err := a.confirm(ctx, o, key); err != nil {
			return err
		}
	}
	client, err := o.conn.open(a)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, statsTimeout)
	defer cancel()
	n, err := client.Force(ctx, o.kind(), key)
	if err != nil {
		return failf(exitUsage, "%w", err)
	}
	return a.forced(ctx, o, key, n)
}

// forced says what came of it.
func (a *app) forced(ctx context.Context, o *forceOptions, key string, n int) error {
	switch {
	case o.json:
		if err := json.NewEncoder(a.stdout).Encode(forceReport{Kind: o.kind().String(), Key: key, Ended: n}); err != nil {
			return failf(exitUsage, "%w", err)
		}
	case n == 1:
		a.note("%s %q taken away", o.kind(), key)
	case n > 1:
		a.note("%s %q taken away from %d holders", o.kind(), key, n)
	}
	if n == 0 && !o.json {
		report, _ := a.inspect(ctx, &o.conn) //nolint:errcheck // it only says more
		return heldByNobody(o, key, report)
	} else if n == 0 {
		return &exitError{code: exitFailed}
	}
	return nil
}

func heldByNobody(o *forceOptions, key string, r locker.Report) error {
	if grace := graceOf(r, o.kind().String(), key); grace > 0 {
		return failf(exitFailed, "nobody holds the %s %q yet: its server was restarted, and waits another %s for those who held to come back; "+
			"until then, whoever had it can", o.kind(), key, span(grace))
	}
	others := "--semaphore and --rw are for other kinds"
	switch {
	case o.rw:
		others = "without --rw it would be a lock"
	case o.semaphore:
		others = "without --semaphore it would be a lock"
	}
	return failf(exitFailed, "nobody holds the %s %q (%s)", o.kind(), key, others)
}

// confirm says who holds the key and asks whether to go on. Its error ends the
// tool.
func (a *app) confirm(ctx context.Context, o *forceOptions, key string) error {
	report, err := a.inspect(ctx, &o.conn)
	var k locker.KeyReport
	for _, r := range report.Keys {
		if r.Kind == o.kind().String() && r.Key == key {
			k = r
		}
	}
	switch {
	case k.Holders == 0 && err != nil:
		return err
	case k.Holders == 0:
		return heldByNobody(o, key, report)
	}
	fmt.Fprintf(a.stderr, "dlock: %s. Take it away? [y/N] ", holders(&k))
	line, err := bufio.NewReader(a.stdin).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	if err != nil {
		fmt.Fprintln(a.stderr) // nobody ended the line
	}
	return &exitError{code: exitFailed, err: errors.New("nothing done")}
}

// holders says who holds a key.
func holders(k *locker.KeyReport) string {
	s := fmt.Sprintf("%s %q is held by ", k.Kind, k.Key)
	switch {
	case k.Holders > 1:
		s += fmt.Sprintf("%d holders", k.Holders)
		if k.Name != "" {
			s += fmt.Sprintf(" (%s and others)", k.Name)
		}
	case k.Name != "":
		s += k.Name
	case k.Owner != "":
		s += "connection " + k.Owner
	default:
		s += "somebody"
	}
	if k.HeldFor > 0 && k.Holders == 1 {
		s += " for " + span(k.HeldFor)
	}
	if k.Waiters > 0 {
		s += fmt.Sprintf(", and %d wait for it", k.Waiters)
	}
	return s
}
