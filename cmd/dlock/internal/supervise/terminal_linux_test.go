package supervise

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-go/distributed/cmd/dlock/internal/ptytest"
)

func TestKillOfTheSupervisorKillsTheLeader(t *testing.T) {
	cmd := exec.Command(os.Args[0], "sh", "-c", `echo $$; exec sleep 1000`)
	cmd.Env = append(os.Environ(), "SUPERVISE_HELPER=1", "GORACE=atexit_sleep_ms=0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed, as it should be
	gone(t, pid)
}

// openConsole runs a command on a terminal; as "$DLOCK", or as the command
// itself, this binary supervises.
func openConsole(t *testing.T, args ...string) *ptytest.Console {
	t.Helper()
	return ptytest.Open(t, append(os.Environ(), "SUPERVISE_HELPER=1", "GORACE=atexit_sleep_ms=0", "DLOCK="+os.Args[0], "ENV="), args...)
}

func TestCommandReadsTheTerminal(t *testing.T) {
	c := openConsole(t, os.Args[0], "sh", "-c", `read a; echo "got-$a"; exit 4`)
	c.Press("word\n")
	c.Await("got-word")
	if _, code := c.Exit(); code != 4 {
		t.Errorf("exit code %d, want 4", code)
	}
}

func TestInterruptKeyReachesTheCommandOnce(t *testing.T) {
	c := openConsole(t, os.Args[0], "sh", "-c", `n=0; trap 'n=$((n+1))' INT; echo ready
		i=0; while [ $i -lt 20 ]; do sleep 0.02; i=$((i+1)); done; echo "interrupts-$n"`)
	c.Await("ready")
	c.Press("\x03")
	c.Await("interrupts-1")
	if _, code := c.Exit(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

func TestTerminalIsHandedOverOnDemand(t *testing.T) {
	// Its output goes to a pipe, so it does not get the foreground at once.
	c := openConsole(t, "sh", "-c", `"$DLOCK" sh -c 'read a </dev/tty; echo "got-$a"' | cat; echo "after"`)
	c.Press("word\n")
	c.Await("got-word")
	c.Await("after")
}

func TestTerminalIsTakenBack(t *testing.T) {
	c := openConsole(t, "sh", "-c", `"$DLOCK" true; "$DLOCK" /nonexistent/command; echo "ready"; read a; echo "got-$a"`)
	c.Await("ready")
	c.Press("word\n") // a shell in the background could not read it
	c.Await("got-word")
}

func TestStopKeyStopsTheJob(t *testing.T) {
	c := openConsole(t, "sh", "-m", "-c", `"$DLOCK" sh -c 'echo ready; read a; echo "got-$a"'
		echo "stopped-$?"; fg; echo "ended-$?"`)
	c.Await("ready")
	c.Press("\x1a")
	c.Await("stopped-" + fmt.Sprint(128+int(syscall.SIGTTIN)))
	c.Press("word\n")
	c.Await("got-word")
	c.Await("ended-0")
}

// A parent outside the group that does not collect its child keeps a zombie in
// it, which must not pass for somebody who is left. Here the parent is the test.
func TestZombiesAreNobody(t *testing.T) {
	g, err := Start(Command{Path: "/bin/sh", Args: []string{"sh", "-c", "exec sleep 1000"}, Env: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	zombie := exec.Command("sleep", "1000")
	zombie.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: g.Pid()}
	if err := zombie.Start(); err != nil {
		t.Fatal(err)
	}
	if onlyZombies(g.Pid()) {
		t.Error("two that sleep count as ended")
	}
	g.Kill()
	<-g.Ended()
	for deadline := time.Now().Add(patience); !onlyZombies(g.Pid()); time.Sleep(time.Millisecond) { // real time: the processes are real
		if time.Now().After(deadline) {
			t.Fatal("who was killed counts as somebody")
		}
	}
	if !g.Empty() {
		t.Error("a zombie counts as somebody")
	}
	_ = zombie.Wait() // Empty has collected it, as it does those that it is given
}
