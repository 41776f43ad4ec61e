//go:build unix

package proc

import (
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// Usage is what a process uses at an instant.
type Usage struct {
	// CPU is the time on processors since the process started, user and system.
	CPU time.Duration `json:"cpu_ns"`
	// Goroutines counts goroutines, the one that asks included.
	Goroutines int `json:"goroutines"`
	// Files counts open file descriptors, and Sockets those of them that are
	// sockets.
	Files   int `json:"files"`
	Sockets int `json:"sockets"`
	// Heap is what the heap holds, in bytes.
	Heap uint64 `json:"heap"`
}

// Measure returns what this process uses. Collect runs the garbage collector
// first: twice, since what a sync.Pool keeps survives one round.
func Measure(collect bool) Usage {
	if collect {
		runtime.GC()
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u := Usage{CPU: CPU(), Goroutines: runtime.NumGoroutine(), Heap: m.HeapAlloc}
	u.Files, u.Sockets = files()
	return u
}

// CPU returns the time that this process has spent on processors.
func CPU() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic("getrusage of this process: " + err.Error()) // its only errors are bad arguments
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// files counts open file descriptors. The one that reads the directory is
// closed again before they are looked at, and so does not count.
func files() (all, sockets int) {
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		panic("a system without /dev/fd: " + err.Error())
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		var st syscall.Stat_t
		if syscall.Fstat(fd, &st) != nil {
			continue
		}
		all++
		if st.Mode&syscall.S_IFMT == syscall.S_IFSOCK {
			sockets++
		}
	}
	return all, sockets
}
