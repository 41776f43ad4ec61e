// Package servers has the child processes that measurements serve from: a lock
// server of this project, and the echo that it is compared with.
package servers
