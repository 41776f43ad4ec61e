// Package bench measures what locks cost on this machine, beside what the
// machine could do at best: a bare echo of messages of the same size over one
// connection, in turns with the locks, and a second copy of that echo, which says
// what difference means nothing.
package bench
