package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"strconv"
	"syscall"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/cmd/dlock/internal/supervise"
	"golang.org/x/sys/unix"
)

// A runReport is what run --json prints; runHelp explains the fields.
type runReport struct {
	Key      string  `json:"key"`
	Limit    int     `json:"limit,omitempty"`
	Acquired bool    `json:"acquired"`
	Waited   float64 `json:"waited_s"`
	Held     float64 `json:"held_s"`
	Fence    string  `json:"fence,omitempty"`
	ExitCode int     `json:"exit_code"`
	Signal   string  `json:"signal,omitempty"`
	Lost     string  `json:"lost,omitempty"`
	Error    string  `json:"error,omitempty"`

	to io.Writer // nil: --json was not given
}

// openReport finds out where the report goes before anything is locked.
func (a *app) openReport(o *runOptions, key string) (*runReport, error) {
	to, err := a.openDescriptor(o.json)
	if err != nil {
		return nil, err
	}
	return &runReport{Key: key, Limit: o.limit, to: to}, nil
}

// openDescriptor returns what --json=FD names, and nil if it is not given.
func (a *app) openDescriptor(text string) (io.Writer, error) {
	if text == "" {
		return nil, nil
	}
	fd, err := strconv.Atoi(text)
	if err != nil || fd < 1 {
		return nil, usagef("--json=%s: want the number of a file descriptor", text)
	}
	switch fd {
	case 1:
		return a.stdout, nil
	case 2:
		return a.stderr, nil
	}
	// What this process opened itself is close-on-exec, what it inherited cannot
	// be.
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC != 0 {
		return nil, usagef("--json=%d: no such descriptor was given to dlock", fd)
	}
	// The command must not have it: whoever reads the report waits for its end.
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "descriptor "+text), nil
}

func (r *runReport) acquired(l *distributed.Lease) {
	r.Acquired = true
	if n, ok := l.Fence(); ok {
		r.Fence = strconv.FormatUint(n, 10)
	}
}

func (r *runReport) ended(o supervise.Outcome) {
	if o.Status.Signal != 0 {
		r.Signal = unix.SignalName(o.Status.Signal)
	}
	if o.Lost != nil {
		r.Lost = o.Lost.Error()
	}
}

// write prints the report of a run that ended with this code and error.
func (r *runReport) write(code int, err error) {
	r.close(code, err)
	_ = json.NewEncoder(r.to).Encode(r) // nobody is left to be told
}

// close notes how the run ended.
func (r *runReport) close(code int, err error) {
	r.ExitCode = code
	var exit *exitError
	if errors.As(err, &exit) && exit.err != nil && r.Lost == "" {
		r.Error = exit.err.Error()
	}
}
