// Package servers has the child processes that measurements and campaigns serve
// from: a lock server, as its caller has made it, and the echo that it is compared
// with. It is for tests and measurements alone.
package servers
