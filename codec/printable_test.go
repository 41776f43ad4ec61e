package codec_test

import (
	"bytes"
	"testing"

	"github.com/distributed-go/distributed/codec"
)

// Names and keys are looked at eight bytes at a time: whatever is not allowed must be
// found at each place, whatever stands around it.
func TestBytesAreRefusedWhereverTheyStand(t *testing.T) {
	t.Parallel()
	for _, around := range []byte{'!', 'x', '~'} {
		for at := range 20 {
			for c := range 256 {
				name := bytes.Repeat([]byte{around}, 20)
				name[at] = byte(c)
				allowed := c > ' ' && c < 0x7f
				if err := codec.CheckName(string(name)); (err == nil) != allowed {
					t.Errorf("CheckName(%q) = %v, want allowed=%t", name, err, allowed)
				}
				if err := codec.CheckKey(string(name)); (err == nil) != allowed {
					t.Errorf("CheckKey(%q) = %v, want allowed=%t", name, err, allowed)
				}
			}
		}
	}
}
