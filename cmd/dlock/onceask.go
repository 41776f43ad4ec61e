package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/once"
)

// A onceStatus is what once --status and --reset print with --json; onceHelp
// explains the fields.
type onceStatus struct {
	Key         string     `json:"key"`
	Done        bool       `json:"done"`
	By          string     `json:"by,omitempty"`
	At          *time.Time `json:"at,omitempty"`
	Fence       string     `json:"fence,omitempty"`
	Fingerprint string     `json:"fingerprint,omitempty"`
	Expires     *time.Time `json:"expires,omitempty"`
}

func statusOf(key string, m *once.Mark) onceStatus {
	s := onceStatus{Key: key}
	if m == nil {
		return s
	}
	s.Done, s.By, s.At, s.Fingerprint = true, m.By, &m.At, m.Fingerprint
	if m.Fence != 0 {
		s.Fence = strconv.FormatUint(m.Fence, 10)
	}
	if !m.Expires.IsZero() {
		s.Expires = &m.Expires
	}
	return s
}

// String is for people.
func (s *onceStatus) String() string {
	if !s.Done {
		return fmt.Sprintf("%q is not done", s.Key)
	}
	text := fmt.Sprintf("%q was done by %s at %s", s.Key, s.By, s.At.Local().Format(time.RFC3339))
	if s.Fence != "" {
		text += ", fence " + s.Fence
	}
	if s.Fingerprint != "" {
		text += fmt.Sprintf(", fingerprint %q", s.Fingerprint)
	}
	if s.Expires != nil {
		text += ", which counts until " + s.Expires.Local().Format(time.RFC3339)
	}
	return text
}

// onceStatus says whether it is done, and by whom.
func (a *app) onceStatus(ctx context.Context, o *onceOptions, key string) error {
	return a.onceAsk(ctx, o, key, func(ctx context.Context, c *distributed.Client, to io.Writer) error {
		s, err := o.mark(ctx, c, key)
		if err != nil {
			return err
		}
		if err := a.tell(to, s); err != nil {
			return err
		}
		switch {
		case !s.Done:
			return &exitError{code: exitFailed}
		case o.fingerprint != "" && s.Fingerprint != o.fingerprint:
			return o.asked(key, &once.FingerprintError{Have: s.Fingerprint, Want: o.fingerprint})
		}
		return nil
	})
}

// onceReset undoes that it is done.
func (a *app) onceReset(ctx context.Context, o *onceOptions, key string) error {
	if !o.yes && !a.asks() {
		return usagef("there is no terminal to ask on: say --yes to undo that %q is done", key)
	}
	return a.onceAsk(ctx, o, key, func(ctx context.Context, c *distributed.Client, to io.Writer) error {
		s, err := o.mark(ctx, c, key)
		switch {
		case err != nil:
			return err
		case !s.Done && to != nil:
			return errors.Join(a.tell(to, s), &exitError{code: exitFailed})
		case !s.Done:
			return failf(exitFailed, "%s", s)
		case !o.yes && !a.agreed("%s. Undo that?", s):
			return failf(exitFailed, "nothing done")
		}
		if err := o.of(c, key).Reset(ctx); err != nil {
			return o.asked(key, err)
		}
		if to != nil {
			return a.tell(to, s)
		}
		a.note("%q is not done any more", key)
		return nil
	})
}

// onceAsk calls f with a client and with where --json goes, nil if nowhere.
func (a *app) onceAsk(ctx context.Context, o *onceOptions, key string, f func(context.Context, *distributed.Client, io.Writer) error) error {
	to, err := a.openDescriptor(o.json)
	if err != nil {
		return err
	}
	o.conn.anonymous()
	client, err := o.conn.open(a)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := untilSignal(ctx)
	defer cancel()
	return f(ctx, client, to)
}

// mark asks who did it. The server must answer soon.
func (o *onceOptions) mark(ctx context.Context, c *distributed.Client, key string) (*onceStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, statsTimeout)
	defer cancel()
	mark, err := o.of(c, key).Mark(ctx)
	switch {
	case errors.Is(err, once.ErrNotDone):
		s := statusOf(key, nil)
		return &s, nil
	case err != nil:
		return nil, o.asked(key, err)
	}
	s := statusOf(key, &mark)
	return &s, nil
}

// tell prints a status: as JSON to where that goes, or else for people.
func (a *app) tell(to io.Writer, s *onceStatus) error {
	var err error
	if to != nil {
		err = json.NewEncoder(to).Encode(s)
	} else {
		_, err = fmt.Fprintln(a.stdout, s)
	}
	if err != nil {
		return failf(exitUsage, "%w", err)
	}
	return nil
}

// agreed asks a question on the terminal.
func (a *app) agreed(format string, args ...any) bool {
	fmt.Fprintf(a.stderr, "dlock: "+format+" [y/N] ", args...)
	line, err := bufio.NewReader(a.stdin).ReadString('\n')
	if err != nil {
		fmt.Fprintln(a.stderr) // nobody ended the line
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true
	}
	return false
}
