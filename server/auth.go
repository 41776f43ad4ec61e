package server

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/distributed-go/distributed/codec"
)

// penalty is how long a wrong secret is answered with silence.
const penalty = 100 * time.Millisecond

// A guard knows the secret that clients must show.
type guard struct {
	key  [sha256.Size]byte
	want []byte
}

// newGuard returns the guard of a secret, and nil for no secret.
func newGuard(secret []byte) (*guard, error) {
	if len(secret) == 0 {
		return nil, nil
	}
	g := &guard{}
	if _, err := rand.Read(g.key[:]); err != nil {
		return nil, fmt.Errorf("server: no randomness to compare secrets: %w", err)
	}
	g.want = g.sum(secret)
	return g, nil
}

// admits compares MACs and not the secrets themselves, because comparing those
// takes a time that tells their length.
func (g *guard) admits(secret []byte) bool { return hmac.Equal(g.sum(secret), g.want) }

func (g *guard) sum(secret []byte) []byte {
	mac := hmac.New(sha256.New, g.key[:])
	mac.Write(secret)
	return mac.Sum(nil)
}

// authenticate lets a connection in that shows the secret before anything else.
// The others get their answer late, so that guessing takes time, and meanwhile
// do not count to the cap on connections, so that they keep nobody out.
func (s *Server) authenticate(c *conn) error {
	if s.guard == nil {
		return nil
	}
	var r codec.Request
	err := c.next(&r)
	switch {
	case err == nil && r.Command == codec.Auth && s.guard.admits(r.Secret):
		return c.answer(&codec.Answer{Status: codec.OK})
	case err != nil && !errors.Is(err, codec.ErrMalformed):
		return err
	}
	s.giveSlot(c)
	s.cfg.Logger.Warn("authentication refused", "remote", c.nc.RemoteAddr())
	late := time.NewTimer(penalty)
	defer late.Stop()
	select {
	case <-late.C:
	case <-c.woken:
	}
	c.out = codec.AppendAnswer(c.out, &codec.Answer{Status: codec.ErrAuth})
	return errAuth
}
