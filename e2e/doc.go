// Package e2e tests and measures the whole: lock servers, clients and workers
// as real processes, which are killed, stopped, cut off from each other and
// compared with a bare echo. It has no code to import and is never released.
//
// The test binary runs itself again as those processes, so that Go alone is
// needed. They never outlive it. What is measured is printed by
//
//	go test ./e2e -run Measure -full -v -timeout 20m
//
// from the root of the repository, in about a quarter of an hour; without -full
// the same tests run in small sizes, in which they only have to be right: no
// figure that depends on the machine's speed fails a test, but for bounds that
// are generous by a factor of ten or more. The flags that set single sizes are
// listed by
//
//	go test ./e2e -args -help
//
// Measure on a machine that does nothing else. Figures are to be read as ratios
// to the echo in the same table, which was measured in turns with the locks;
// the echo's second copy beside it says how large a difference means nothing.
//
// The tests need a Unix system; where Linux alone can do something, such as
// counting the sockets of a process from inside, the tests say so.
package e2e
