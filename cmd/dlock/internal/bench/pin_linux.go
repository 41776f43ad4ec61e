package bench

import (
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// pin keeps all threads of these processes on one processor, until the function
// that it returns is called. Threads that begin later stay on it, too.
func pin(pids ...int) (unpin func() error, err error) {
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, err
	}
	first := 0
	for !before.IsSet(first) {
		first++
	}
	var one unix.CPUSet
	one.Set(first)
	if err := confine(&one, pids); err != nil {
		return nil, err
	}
	return func() error { return confine(&before, pids) }, nil
}

// confine binds all threads of the processes to a set of processors: twice,
// because a thread may begin while the others are bound.
func confine(set *unix.CPUSet, pids []int) error {
	for range 2 {
		for _, pid := range pids {
			tasks, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*")
			if err != nil {
				return err
			}
			for _, task := range tasks {
				tid, err := strconv.Atoi(filepath.Base(task))
				if err != nil {
					return err
				}
				if err := unix.SchedSetaffinity(tid, set); err != nil && err != unix.ESRCH {
					return os.NewSyscallError("sched_setaffinity", err)
				}
			}
		}
	}
	return nil
}
