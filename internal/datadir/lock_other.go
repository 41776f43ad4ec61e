//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd)

package datadir

import (
	"errors"
	"fmt"
	"os"
)

// flock fails: without a lock that ends with the process, a second server could
// use the directory.
func flock(*os.File) error {
	return fmt.Errorf("a data directory needs flock, which this system lacks: %w", errors.ErrUnsupported)
}
