//go:build unix && !linux

package bench

import "errors"

// pin would keep processes on one processor; only Linux is asked.
func pin(...int) (unpin func() error, err error) { return nil, errors.ErrUnsupported }
