// Rivals measures locks of several libraries beside each other, in one run on
// one machine: this project's, etcd's concurrency.Mutex, and redsync, redislock
// and rueidislock on Redis, with a bare echo as the limit of what any client of
// one connection could reach. The script run beside this file installs what is
// missing, runs it in about five minutes, and writes docs/benchmarks.md.
//
// Each library gets a server and a client, each in a process of its own, and all
// take turns in short blocks. Every library is used as its manual says; where
// that leaves a choice the source says which was made.
//
// It is a module and a workspace of its own: etcd is more to download and to
// compile than all the rest of this repository, whose tests must run quickly on
// a fresh machine. Its own tests run with "go test ." in this directory.
package main
