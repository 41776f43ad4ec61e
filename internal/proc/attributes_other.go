//go:build unix && !linux

package proc

import "syscall"

// attributes asks for nothing: here a child ends when its standard input does.
func attributes() *syscall.SysProcAttr { return nil }
