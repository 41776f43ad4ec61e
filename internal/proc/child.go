//go:build unix

package proc

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"
)

// roleVariable tells a process that it is a child, and in which role.
const roleVariable = "DISTRIBUTED_E2E_ROLE"

// A Role is the main function of a child: it calls Serve, which returns when
// the parent has hung up.
type Role func(c *Child) error

// A Handler answers one call: args is what the parent sent, result goes back as
// JSON. Handlers run one at a time.
type Handler func(args json.RawMessage) (result any, err error)

// A Child is the child's end of a Process.
type Child struct {
	args     json.RawMessage
	in       *json.Decoder
	out      *json.Encoder
	handlers map[string]Handler
}

// A request is a call on its way to the child; the first one's name is empty
// and its arguments are the role's.
type request struct {
	Call string          `json:"call"`
	Args json.RawMessage `json:"args"`
}

// An answer is a call's result on its way back.
type answer struct {
	Result json.RawMessage `json:"result"`
	Error  string          `json:"error,omitempty"`
}

// Main makes the process a child and exits, if it was started as one; otherwise
// it returns. Call it first thing in TestMain.
func Main(roles map[string]Role) {
	name, isChild := os.LookupEnv(roleVariable)
	if !isChild {
		return
	}
	role, ok := roles[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "no role %q\n", name)
		os.Exit(2)
	}
	os.Exit(Be(name, role))
}

// Be makes the process a child in a role, for programs that know by other means
// than Main that they are one, and returns the code to exit with. Name names it
// on standard error.
func Be(name string, role Role) int {
	c := &Child{
		in:  json.NewDecoder(bufio.NewReader(os.Stdin)),
		out: json.NewEncoder(os.Stdout),
	}
	c.handlers = map[string]Handler{
		"cpu":    Handle(func(struct{}) (time.Duration, error) { return CPU(), nil }),
		"usage":  Handle(func(collect bool) (Usage, error) { return Measure(collect), nil }),
		"stacks": Handle(func(struct{}) (string, error) { return stacks(), nil }),
	}
	startPoller()
	var first request
	if err := c.in.Decode(&first); err != nil {
		return 0 // the parent is gone already
	}
	c.args = first.Args
	if err := role(c); err != nil {
		c.send(nil, err)
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 1
	}
	return 0
}

// startPoller makes the runtime open the descriptors of its poller, which stay:
// whoever counts descriptors before and after counts them both times.
func startPoller() {
	if r, w, err := os.Pipe(); err == nil {
		r.Close()
		w.Close()
	}
}

// Args reads what Start was given into v.
func (c *Child) Args(v any) error { return json.Unmarshal(c.args, v) }

// Handle adds a handler for a call. Every child answers "cpu", "usage" and "stacks".
func (c *Child) Handle(name string, h Handler) { c.handlers[name] = h }

// Handle makes a Handler of a function with typed arguments.
func Handle[A, R any](f func(A) (R, error)) Handler {
	return func(raw json.RawMessage) (any, error) {
		var args A
		if err := json.Unmarshal(raw, &args); err != nil {
			return nil, err
		}
		return f(args)
	}
}

// Serve tells the parent that the child is ready, with what it wants to know,
// such as an address, and then answers calls until the parent hangs up.
func (c *Child) Serve(ready any) error {
	c.send(ready, nil)
	for {
		var r request
		if err := c.in.Decode(&r); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		h, ok := c.handlers[r.Call]
		if !ok {
			c.send(nil, fmt.Errorf("no call %q", r.Call))
			continue
		}
		c.send(h(r.Args))
	}
}

// send answers the parent. One that is gone needs no answer: the next read says
// so.
func (c *Child) send(result any, err error) {
	var a answer
	if err == nil {
		a.Result, err = json.Marshal(result)
	}
	if err != nil {
		a = answer{Error: err.Error()}
	}
	_ = c.out.Encode(a)
}

// stacks returns the stacks of all goroutines, for the report of a leak.
func stacks() string {
	buf := make([]byte, 1<<20)
	return string(buf[:runtime.Stack(buf, true)])
}
