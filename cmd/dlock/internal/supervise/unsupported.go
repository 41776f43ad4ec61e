//go:build !unix

package supervise

// Process groups and Unix signals are what this package is made of. A build
// that could only kill one process would break the tool's promise silently, so
// there is none.
var _ = dlockBuildsOnUnixSystemsOnly
