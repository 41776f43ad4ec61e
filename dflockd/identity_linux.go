package dflockd

import (
	"os"
	"strconv"
	"strings"
	"sync"
)

// thisProcess is BOOTID:PIDNS:PID, or empty where that cannot be found out.
var thisProcess = sync.OnceValue(func() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	space, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	number := strings.TrimSuffix(strings.TrimPrefix(space, "pid:["), "]")
	return strings.TrimSpace(string(boot)) + ":" + number + ":" + strconv.Itoa(os.Getpid())
})
