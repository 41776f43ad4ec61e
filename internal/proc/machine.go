//go:build unix

package proc

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// Machine is time of all processors of the machine, of all processes.
type Machine struct {
	Busy  time.Duration // working, or taken away by a hypervisor
	Total time.Duration // that, and idle
}

// Sub returns what has passed since.
func (m Machine) Sub(since Machine) Machine {
	return Machine{Busy: m.Busy - since.Busy, Total: m.Total - since.Total}
}

// userHz is the unit of /proc/stat: 1/100 s, whatever the kernel's own.
const userHz = 10 * time.Millisecond

// MachineCPU returns the time since the machine started. It is false where the
// system does not say, as all but Linux.
func MachineCPU() (Machine, bool) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Machine{}, false
	}
	return parseStat(string(b))
}

// parseStat reads the first line: user, nice, system, idle, iowait, irq,
// softirq and steal. What follows is part of user and nice.
func parseStat(stat string) (Machine, bool) {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return Machine{}, false
	}
	var m Machine
	for i, f := range fields[1:9] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return Machine{}, false
		}
		m.Total += time.Duration(n) * userHz
		if i != 3 && i != 4 {
			m.Busy += time.Duration(n) * userHz
		}
	}
	return m, true
}
