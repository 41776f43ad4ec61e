//go:build !linux

package dflockd

// thisProcess is empty: servers see processes die on Linux only.
func thisProcess() string { return "" }
