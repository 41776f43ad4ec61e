package main

import (
	"errors"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

func TestAppWithoutAVerb(t *testing.T) {
	for _, args := range [][]string{{}, {"no-such-verb"}, {"--no-such-flag"}} {
		out := call(t, toolEnv(), args...)
		if out.code != exitUsage || !strings.Contains(out.stderr, "Try 'dlock --help'.") || out.stdout != "" {
			t.Errorf("dlock %q: %+v", args, out)
		}
	}
}

func TestAppHelp(t *testing.T) {
	out := call(t, toolEnv(), "--help")
	for _, verb := range []string{"bench", "demo", "force", "once", "run", "serve", "stats"} {
		if !strings.Contains(out.stdout, "\n  "+verb+" ") {
			t.Errorf("no %s in the help:\n%s", verb, out.stdout)
		}
		if help := call(t, toolEnv(), verb, "--help"); help.code != 0 || !strings.Contains(help.stdout, "Exit code:") {
			t.Errorf("%s --help: %+v, want the exit codes", verb, help)
		}
	}
	if out.code != 0 || out.stderr != "" || strings.Contains(out.stdout, workerVerb) || strings.Contains(out.stdout, benchServerVerb) {
		t.Errorf("%+v", out)
	}
}

func TestAppVersion(t *testing.T) {
	out := call(t, toolEnv(), "--version")
	if out.code != 0 || !strings.HasPrefix(out.stdout, "dlock ") || !strings.Contains(out.stdout, runtime.Version()) || out.stderr != "" {
		t.Errorf("%+v", out)
	}
	built := &debug.BuildInfo{GoVersion: "go9", Main: debug.Module{Version: "v1.2.3"}}
	if got := version(built, true); got != "v1.2.3 go9" {
		t.Errorf("of a release: %q", got)
	}
	built.Main.Version = "(devel)"
	built.Settings = []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.time", Value: "then"}, {Key: "vcs.modified", Value: "true"}}
	if got := version(built, true); got != "(devel) abc then modified go9" {
		t.Errorf("of a work tree: %q", got)
	}
	if got := version(nil, false); got != "of unknown version" {
		t.Errorf("of something else: %q", got)
	}
}

func TestExitError(t *testing.T) {
	cause := errors.New("cause")
	if err := error(failf(7, "because of: %w", cause)); !errors.Is(err, cause) || err.Error() != "because of: cause" {
		t.Errorf("%v", err)
	}
	if err := (&exitError{code: 7}); err.Error() != "exit code 7" {
		t.Errorf("%v", err)
	}
}

func TestGetenvTakesTheLast(t *testing.T) {
	a := &app{env: []string{"A=1", "AB=2", "A=3", "B"}}
	for name, want := range map[string]string{"A": "3", "AB": "2", "B": "", "C": ""} {
		if got := a.getenv(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}
