package etcd

import (
	"testing"
	"unsafe"

	"github.com/distributed-go/distributed/internal/assert"
)

func TestSizeOfEntry(t *testing.T) {
	assert.Exactly(t, "bytes of an entry", unsafe.Sizeof(entry{}), 64)
}
