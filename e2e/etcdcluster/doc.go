// Package etcdcluster puts a cluster of three etcd members, each a process of its
// own, and the locks on it under real faults: members killed, stopped and cut off,
// the leader moved, one after the other and two at once, while processes hold and
// wait. It has no code to import and is never released.
//
// What happened is judged as in package faults: by the intervals of belief and the
// fences that the holders wrote down, by a guarded store, and by what is left in
// etcd. That the judges bite is tested with planted bugs.
//
// See docs/faults.md for what was measured.
package etcdcluster
