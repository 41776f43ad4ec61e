package server

import (
	"net"
	"strings"
	"sync"
	"time"

	"github.com/distributed-go/distributed/codec"
)

// afterlife is how long the process of a session is watched after the end of its
// connection. A process that dies closes its connections first, and only then
// has exited, which takes the longer the more memory it had.
const afterlife = time.Minute

// Deaths is the watch over the processes of sessions: of the newest hello of
// each, if that named a process of this machine. It is a field of its own
// beside the locks, because it has goroutines, for which close waits.
type deaths struct {
	locks  *locks
	ignore bool // nobody is watched

	mu      sync.Mutex                 // taken before locks.mu, never behind it
	watches map[codec.SessionID]*watch // guarded by mu, as is closed and what is in them
	closed  bool
	running sync.WaitGroup
}

// A watch is a goroutine that waits for one process to exit.
type watch struct {
	exit  processExit
	timer *time.Timer // ends it some time after its connection; nil before
}

// A processExit is the coming exit of one process.
type processExit interface {
	// wait returns true once the process has exited, and false after close.
	wait() bool
	close()
}

func newDeaths(k *locks, ignore bool) *deaths {
	return &deaths{locks: k, ignore: ignore, watches: make(map[codec.SessionID]*watch)}
}

// greet calls hello, which begins a session or goes on with one, and from then
// on watches the process that the session says that it is, and no longer the one
// that it was. The mutex is held meanwhile, or else the death of that one could
// end the session of this one. The watch is nil for a process that is not local
// or does not exist, and where hello returns false.
func (d *deaths) greet(nc net.Conn, process string, hello func() (codec.SessionID, bool)) *watch {
	var exit processExit
	if process != "" && !d.ignore && local(nc) {
		exit = openProcess(process)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	id, ok := hello()
	if old := d.watches[id]; ok && old != nil {
		d.drop(id, old)
	}
	switch {
	case exit == nil:
		return nil
	case !ok || d.closed:
		exit.close()
		return nil
	}
	w := &watch{exit: exit}
	d.watches[id] = w
	d.running.Go(func() { d.run(id, w) })
	return w
}

// run tells the sessions that the process is no more once that is certain, and
// only while its session has not said to be another process.
func (d *deaths) run(id codec.SessionID, w *watch) {
	exited := w.exit.wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.watches[id] != w {
		return
	}
	d.drop(id, w)
	if exited {
		now := d.locks.enter()
		d.locks.sessions.Died(now, id)
		d.locks.leave(now)
	}
}

// disconnected says that the connection that began the watch has ended, and
// whether its session is still known: after a bye there is nothing left that a
// death could end, and nothing to watch for.
func (d *deaths) disconnected(id codec.SessionID, w *watch, known bool) {
	if w == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.watches[id] != w {
		return
	}
	if !known {
		d.drop(id, w)
		return
	}
	w.timer = time.AfterFunc(afterlife, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.watches[id] == w {
			d.drop(id, w)
		}
	})
}

// drop ends a watch, with the mutex held.
func (d *deaths) drop(id codec.SessionID, w *watch) {
	delete(d.watches, id)
	if w.timer != nil {
		w.timer.Stop()
	}
	w.exit.close()
}

// close ends all watches.
func (d *deaths) close() {
	d.mu.Lock()
	d.closed = true
	for id, w := range d.watches {
		d.drop(id, w)
	}
	d.mu.Unlock()
	d.running.Wait()
}

// local says whether the other end of a connection is on this machine: what
// comes over loopback or a unix socket is not forwarded by the kernel.
func local(nc net.Conn) bool {
	switch a := nc.RemoteAddr().(type) {
	case *net.UnixAddr:
		return true
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	}
	return false
}

// ownProcess takes BOOTID:PIDNS:PID apart, and returns the PID if the others are
// those of the server. Only with the same boot ID is it the same kernel, and
// only in the same name space does the number mean the same process. PIDNS is
// what /proc/self/ns/pid is a link to, or the number in it alone.
func ownProcess(process, bootID, pidns string) (pid string, ok bool) {
	number := strings.TrimSuffix(strings.TrimPrefix(pidns, "pid:["), "]")
	if bootID == "" || number == "" {
		return "", false
	}
	if pid, ok = strings.CutPrefix(process, bootID+":"+pidns+":"); ok {
		return pid, true
	}
	return strings.CutPrefix(process, bootID+":"+number+":")
}
