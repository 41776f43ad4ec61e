// Package copies copies what must not be copied, for go vet to notice.
package copies

import "github.com/distributed-go/distributed/semaphore"

func Assigned(w *semaphore.Weighted) *semaphore.Weighted {
	other := *w
	return &other
}

func Passed(w semaphore.Weighted) *semaphore.Weighted { return &w }
