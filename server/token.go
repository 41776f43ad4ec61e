package server

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/distributed-go/distributed/internal/table"
)

// newSigner returns the function that makes the second half of a token: the
// first 64 bits of an HMAC-SHA256, with a secret key, over all that the
// token stands for. So tokens cannot be guessed from others, and one that
// outlived the table can still be proved genuine by whoever has the key. The
// function is not safe for concurrent use: the table calls it under its mutex.
func newSigner(secret []byte) func(kind table.Kind, key string, fence uint64, limit, weight int) uint64 {
	mac := hmac.New(sha256.New, secret)
	// Both are kept because a grant must not allocate them.
	var message, sum []byte
	return func(kind table.Kind, key string, fence uint64, limit, weight int) uint64 {
		// The numbers come first, so that no key can look like one of them.
		message = append(message[:0], byte(kind))
		message = binary.BigEndian.AppendUint64(message, fence)
		message = binary.BigEndian.AppendUint64(message, uint64(limit))
		message = binary.BigEndian.AppendUint64(message, uint64(weight))
		message = append(message, key...)
		mac.Reset()
		mac.Write(message)
		sum = mac.Sum(sum[:0])
		return binary.BigEndian.Uint64(sum)
	}
}

// newSecret returns a key for a signer that nobody else has.
func newSecret() ([]byte, error) {
	secret := make([]byte, sha256.Size)
	if _, err := rand.Read(secret); err != nil {
		return nil, fmt.Errorf("server: no randomness for tokens: %w", err)
	}
	return secret, nil
}
