package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// app is one call of the tool: what main has, as arguments, so that tests have
// it too. The streams are files, because a child process inherits files.
type app struct {
	env                   []string
	stdin, stdout, stderr *os.File
}

// run runs the tool and returns its exit code.
func run(ctx context.Context, args, env []string, stdin, stdout, stderr *os.File) int {
	a := &app{env: env, stdin: stdin, stdout: stdout, stderr: stderr}
	root := a.rootCommand()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return a.report(cmd, err)
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "dlock",
		Short:         "Locks across processes and machines",
		Long:          "Dlock runs commands under locks that hold across processes and machines, serves\nthose locks, and shows who holds them. Begin with: dlock demo",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version(debug.ReadBuildInfo()),
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usagef("no verb given, want one of: %s", strings.Join(verbs(cmd), ", "))
		},
	}
	root.SetVersionTemplate("dlock {{.Version}}\n")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.AddCommand(a.demoCommand(), a.serveCommand(), a.runCommand(), a.onceCommand(), a.statsCommand(), a.forceCommand(), a.benchCommand(), a.workerCommand(), a.benchServerCommand())
	return root
}

// version is what is known of how the tool was built.
func version(info *debug.BuildInfo, ok bool) string {
	if !ok {
		return "of unknown version"
	}
	parts := []string{cmp.Or(info.Main.Version, "(devel)")}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && !strings.Contains(parts[0], s.Value[:min(len(s.Value), 12)]):
			parts = append(parts, s.Value)
		case s.Key == "vcs.time":
			parts = append(parts, s.Value)
		case s.Key == "vcs.modified" && s.Value == "true" && !strings.HasSuffix(parts[0], "+dirty"):
			parts = append(parts, "modified")
		}
	}
	return strings.Join(append(parts, info.GoVersion), " ")
}

// verbs lists the commands that users are to know.
func verbs(cmd *cobra.Command) []string {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return names
}

// report prints an error and returns the exit code that it stands for.
func (a *app) report(cmd *cobra.Command, err error) int {
	if err == nil {
		return exitOK
	}
	var exit *exitError
	if !errors.As(err, &exit) {
		exit = usagef("%w", err) // cobra's own: unknown verbs and flags, bad values
	}
	if exit.err != nil {
		a.note("%v", exit.err)
	}
	if exit.usage {
		fmt.Fprintf(a.stderr, "Try '%s --help'.\n", cmd.CommandPath())
	}
	return exit.code
}

// note prints a line for the user on stderr.
func (a *app) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Fprintln(a.stderr, "dlock:", strings.TrimPrefix(text, "distributed: "))
}

// getenv returns the last value of an environment variable, as getenv(3) of the
// tool's own environment, and "" if it is not set.
func (a *app) getenv(name string) string {
	value := ""
	for _, e := range a.env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			value = v
		}
	}
	return value
}

// examples indents the examples of a help text as cobra does the rest.
func examples(lines ...string) string { return "  " + strings.Join(lines, "\n  ") }
