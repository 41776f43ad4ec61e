// Package copies copies what must not be copied, for go vet to notice.
package copies

import "github.com/distributed-go/distributed/mutex"

func Assigned(m *mutex.Mutex) {
	other := *m
	other.Lock()
}

func Passed(m mutex.Mutex) { m.Lock() }

func Ranged(all []mutex.Mutex) {
	for _, m := range all {
		m.Unlock()
	}
}
