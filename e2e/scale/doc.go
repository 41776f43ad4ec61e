// Package scale measures what a client that does nothing but hold one lock costs
// its server: the figures that docs/backends.md reckons with. It has no code to
// import and is never released.
//
//	go test ./e2e/scale -full -v
package scale
