package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/distributed-go/distributed/internal/proc"
	"github.com/distributed-go/distributed/internal/servers"
)

func main() {
	proc.Main(roles)
	quick := flag.Bool("quick", false, "measure everything for a moment, to see that it works")
	out := flag.String("out", "", "write rivals.json and rivals.svg to this `directory`; without it, JSON goes to stdout")
	page := flag.String("page", "", "`file` of Markdown whose part between <!-- rivals --> and <!-- /rivals --> is replaced by the tables")
	bench := flag.String("bench", "", "`file` with what dlock bench printed, for the page's part of that name")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "rivals: want no arguments")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := compare(ctx, *quick, *out, *page, *bench); err != nil {
		fmt.Fprintln(os.Stderr, "rivals:", err)
		os.Exit(1)
	}
}

// roles are what this program starts itself as.
var roles = map[string]proc.Role{"server": servers.Serve, "etcd": etcdRole, "client": clientRole}

func compare(ctx context.Context, quick bool, out, page, bench string) (err error) {
	dir, err := os.MkdirTemp("", "rivals-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r := &runner{plan: fullPlan, dir: dir}
	if quick {
		r.plan = quickPlan
	}
	r.progress = progress()
	rep, err := r.run(ctx)
	r.progress("")
	if err != nil {
		return err
	}
	return errors.Join(rep.write(out), rep.insert(page, bench))
}

// progress returns a function that says on stderr what is done: in a line that
// changes on a terminal, and elsewhere in one for each thing.
func progress() func(what string) {
	info, err := os.Stderr.Stat()
	moves := err == nil && info.Mode()&os.ModeCharDevice != 0
	last := ""
	return func(what string) {
		part, _, _ := strings.Cut(what, ": ")
		switch {
		case moves:
			fmt.Fprintf(os.Stderr, "\r\x1b[K%s", what)
		case part != last && part != "":
			fmt.Fprintln(os.Stderr, "rivals:", part)
		}
		last = part
	}
}

// write writes JSON and plot to a directory, or JSON to stdout.
func (r *report) write(dir string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if dir == "" {
		_, err := os.Stdout.Write(text)
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "rivals.json"), text, 0o644),
		os.WriteFile(filepath.Join(dir, "rivals.svg"), r.SVG(), 0o644),
	)
}

// insert puts the tables into a page, and what dlock bench printed to a file, if
// there are a page and a file.
func (r *report) insert(page, bench string) error {
	if page == "" {
		return nil
	}
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	spliced, err := splice(string(text), "rivals", r.Markdown())
	if err == nil && bench != "" {
		var printed []byte
		if printed, err = os.ReadFile(bench); err == nil {
			spliced, err = splice(spliced, "bench", "```text\n"+string(printed)+"```\n")
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	return os.WriteFile(page, []byte(spliced), 0o644)
}

// splice replaces what stands between the marks of a name.
func splice(page, name, part string) (string, error) {
	begin, end := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
	before, rest, ok1 := strings.Cut(page, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		return "", fmt.Errorf("no part between %q and %q", strings.TrimSpace(begin), end)
	}
	return before + begin + part + end + after, nil
}
