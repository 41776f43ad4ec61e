// Package supervise runs one command under a hold that may end before the
// command does, and sees to it that nothing of the command is left when it
// returns.
//
// The command becomes the leader of a process group of its own, so that a
// signal reaches what it started too: a shell that is killed alone leaves its
// children working on what the lock no longer protects. The package exists
// beside os/exec because os/exec knows one process, not a group, and does not
// say when a process was stopped.
//
// It needs process groups and signals, so it builds on Unix systems only.
package supervise
