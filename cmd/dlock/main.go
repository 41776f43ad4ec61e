// Dlock is the command-line side of distributed: it runs commands under locks
// that exclude each other across processes and machines, serves those locks,
// shows who holds them, and demonstrates all of it.
//
//	dlock demo                             real processes, real faults, a verdict on each promise
//	dlock serve --port 6388                a lock server that speaks dflockd's protocol
//	dlock run backup -- ./backup.sh        the command, while nobody else holds "backup"
//	dlock once migrate -- ./migrate        the command, unless it succeeded before, wherever that was
//	dlock stats                            who holds and who waits
//	dlock force backup                     take "backup" away from whoever holds it
//	dlock bench                            what locks cost on this machine
//
// The server is found through --server, else the environment variable
// DISTRIBUTED_URL, else at dflockd://127.0.0.1:6388.
//
// It builds on Unix systems. On Linux the command of dlock run dies even when
// dlock itself is killed with SIGKILL; elsewhere it is left behind then.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}
