//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd)

package guard

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

// flock refuses: without a lock between processes a guard would only look like
// one.
func flock(*os.File) error {
	return fmt.Errorf("guard.File needs flock, which %s has not: %w", runtime.GOOS, errors.ErrUnsupported)
}
