// Package proc runs the program that imports it again, as other processes: a
// test binary so becomes a server, or a client to be killed, and nothing but Go
// is needed to run the tests.
//
// A process is started in a role. It answers calls, one line of JSON each, on
// its standard streams, and ends when its standard input does. So it ends with
// its parent however that ended; on Linux the kernel sees to it too, for a
// process that was stopped cannot read.
package proc
