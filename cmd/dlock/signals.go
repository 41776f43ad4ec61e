package main

import (
	"os"
	"os/signal"
	"syscall"
)

// ending are the signals that end the tool in good order.
var ending = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP}

// listen is signal.Notify for signals that were not ignored when the tool began:
// to listen to the others would undo nohup. They go one by one, because Notify
// takes none for all.
func listen(c chan<- os.Signal, signals ...os.Signal) {
	for _, s := range signals {
		if !signal.Ignored(s) {
			signal.Notify(c, s)
		}
	}
}

// An interrupted is why something ended that a signal ended.
type interrupted struct{ sig syscall.Signal }

func (i *interrupted) Error() string { return "interrupted: " + i.sig.String() }
