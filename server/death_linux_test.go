package server_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-go/distributed/server"
)

// process is what a client of this machine says that it is.
func process(t testing.TB, pid int) string {
	t.Helper()
	bootID, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	pidns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s:%s:%d", strings.TrimSpace(string(bootID)), pidns, pid)
}

// victim starts a process to be killed.
func victim(t testing.TB) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd
}

// needPidfd skips the test where the kernel, or what guards it, has no pidfds.
func needPidfd(t testing.TB) {
	t.Helper()
	fd, _, errno := syscall.Syscall(434, uintptr(os.Getpid()), 0, 0)
	if errno != 0 {
		t.Skip("no pidfds here: ", errno)
	}
	syscall.Close(int(fd))
}

func TestDeathIsAHandOver(t *testing.T) {
	needPidfd(t)
	for name, listen := range map[string]func() (net.Listener, error){
		"loopback": func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") },
		"unix":     func() (net.Listener, error) { return net.Listen("unix", filepath.Join(t.TempDir(), "s")) },
	} {
		for _, connectionFirst := range []bool{true, false} {
			t.Run(fmt.Sprint(name, "/", connectionFirst), func(t *testing.T) {
				s := start(t, server.Config{})
				l, err := listen()
				if err != nil {
					t.Fatal(err)
				}
				served := make(chan error, 1)
				go func() { served <- s.Serve(l) }()
				connect := func() *peer {
					nc, err := net.Dial(l.Addr().Network(), l.Addr().String())
					if err != nil {
						t.Fatal(err)
					}
					return newPeer(nc)
				}
				p, other, cmd := connect(), connect(), victim(t)
				id := p.hello(t, "process="+process(t, cmd.Process.Pid))
				p.ask(t, "1 l|k|0 600")
				p.token(t, 1)
				ends := []func(){func() { p.nc.Close() }, func() { cmd.Process.Kill() }}
				if !connectionFirst {
					ends[0], ends[1] = ends[1], ends[0]
				}
				ends[0]()
				time.Sleep(50 * time.Millisecond) // one of the two is not enough, however long
				other.expect(t, "l|k|0", "timeout")
				ends[1]()
				other.ask(t, "l|k|60")
				other.granted(t, "33") // not reaped: a zombie has exited
				connect().expect(t, "hello|_|1 me resume="+id, "error_session")
				other.nc.Close()
				s.Close()
				<-served
			})
		}
	}
}

// TestProcessesCanBeIgnored: then there is no proof, whatever clients say, but
// release-on-close is what the client wants.
func TestProcessesCanBeIgnored(t *testing.T) {
	needPidfd(t)
	s, connect := overTCP(t, server.Config{IgnoreProcesses: true})
	cmd := victim(t)
	for key, more := range map[string]string{"kept": "", "released": " release-on-close"} {
		p := connect()
		p.hello(t, "process="+process(t, cmd.Process.Pid)+more)
		p.ask(t, "1 l|"+key+"|0 600")
		p.token(t, 1)
		p.nc.Close()
	}
	eventually(t, "both have hung up", func() bool { return s.Stats().Connections == 0 })
	cmd.Process.Kill()
	cmd.Wait()
	time.Sleep(50 * time.Millisecond) // for what must not happen
	if l := s.Stats().Locks; len(l) != 1 || l[0].Key != "kept" {
		t.Errorf("%v are held", l)
	}
}

// TestNoProofOfDeath: for these the TTL goes on.
func TestNoProofOfDeath(t *testing.T) {
	needPidfd(t)
	s, connect := overTCP(t, server.Config{})
	cmd := victim(t)
	mine := process(t, cmd.Process.Pid)
	boot, rest, _ := strings.Cut(mine, ":")
	words := []string{
		"process=x" + mine, "process=" + boot, "process=" + boot + ":pid:[1]:" + fmt.Sprint(cmd.Process.Pid), "process=:" + rest,
		"process=" + mine + "x", "process=" + process(t, 0), "process=" + process(t, 1<<30), "process=" + strings.Replace(mine, boot, "0", 1),
	}
	for i, word := range words {
		p := connect()
		p.hello(t, word)
		p.ask(t, fmt.Sprintf("1 l|%d|0 600", i))
		p.token(t, 1)
		p.nc.Close()
	}
	// One that goes on as another process.
	p, again := connect(), connect()
	id := p.hello(t, "process="+mine)
	p.ask(t, "1 l|moved|0 600")
	token := p.token(t, 1)
	again.hello(t, fmt.Sprintf("resume=%s process=%s", id, process(t, os.Getpid())))
	again.expect(t, "2 n|moved|"+token+" 600", "2 ok 600000ms")
	again.nc.Close()
	eventually(t, "all have hung up", func() bool { return s.Stats().Connections == 0 })
	cmd.Process.Kill()
	cmd.Wait()
	time.Sleep(50 * time.Millisecond) // for what must not happen
	if n := len(s.Stats().Locks); n != len(words)+1 {
		t.Errorf("%d locks are held, want %d", n, len(words)+1)
	}
}

// TestByeEndsTheWatch: a program that opens and closes clients all the time
// leaves no descriptor of itself behind with each, nor a goroutine.
func TestByeEndsTheWatch(t *testing.T) {
	needPidfd(t)
	_, connect := overTCP(t, server.Config{})
	for range 20 {
		p := connect()
		p.hello(t, "process="+process(t, os.Getpid()))
		if pidfds(t) == 0 {
			t.Fatal("the process is not watched")
		}
		p.expect(t, "1 bye|_|_", "1 ok")
	}
	eventually(t, "nobody is watched any more", func() bool { return pidfds(t) == 0 })
}

// pidfds counts the descriptors of processes that this process has.
func pidfds(t testing.TB) (n int) {
	t.Helper()
	const dir = "/proc/self/fd"
	fds, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		// Some are closed meanwhile.
		if what, _ := os.Readlink(filepath.Join(dir, fd.Name())); strings.Contains(what, "pidfd") {
			n++
		}
	}
	return n
}
