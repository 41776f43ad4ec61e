//go:build unix

package measure

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// A Machine is where something was measured.
type Machine struct {
	OS    string `json:"os"`
	Arch  string `json:"arch"`
	Go    string `json:"go"`
	CPUs  int    `json:"cpus"`
	Procs int    `json:"gomaxprocs"`
	// Model is that of the processors, and Load the system's load average
	// before the run; empty where the system does not say.
	Model string `json:"cpu_model,omitempty"`
	Load  string `json:"load,omitempty"`
}

// ThisMachine says where this process runs.
func ThisMachine() Machine {
	m := Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version(), CPUs: runtime.NumCPU(), Procs: runtime.GOMAXPROCS(0)}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, after, ok := strings.Cut(string(info), "model name"); ok {
			line, _, _ := strings.Cut(after, "\n")
			m.Model = strings.TrimLeft(line, "\t :")
		}
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		if f := strings.Fields(string(load)); len(f) > 2 {
			m.Load = strings.Join(f[:3], " ")
		}
	}
	return m
}

// String is one line.
func (m Machine) String() string {
	model := m.Model
	if model == "" {
		model = "CPU"
	}
	s := fmt.Sprintf("%d × %s, %s/%s, %s", m.CPUs, model, m.OS, m.Arch, m.Go)
	if m.Load != "" {
		s += ", load " + m.Load
	}
	return s
}
