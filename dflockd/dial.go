package dflockd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/locker"
)

// dial connects, unless the gate is shut, and notes how it went. The
// connection is listed and its reader runs.
func (s *server) dial(ctx context.Context, own bool) (*conn, error) {
	s.mu.Lock()
	err := s.gate.check(time.Now())
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	c, err := s.connect(ctx, own)
	if ctx.Err() != nil || s.b.life.Err() != nil { // it says nothing about the server to others
		if c != nil {
			c.nc.Close() //nolint:errcheck // it is not used
		}
		if s.b.life.Err() != nil {
			return nil, locker.ErrClosed
		}
		// The caller's time was too short to connect in: a wait that ends here
		// must not look as if somebody else held the key.
		return nil, fmt.Errorf("%w: not connected to %v in time: %w", locker.ErrUnavailable, s.addr, context.Cause(ctx))
	}
	s.mu.Lock()
	s.gate.note(time.Now(), err)
	s.mu.Unlock()
	if err == nil {
		err = s.adopt(c)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// connect makes a connection that is ready for requests: dialled, encrypted
// and authenticated within dialTimeout.
func (s *server) connect(parent context.Context, own bool) (*conn, error) {
	// The caller's deadline is kept from the dialler: package net obeys it as
	// a number, and fails a moment before the caller's context has ended, as
	// if it were the server's fault.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(parent), dialTimeout)
	defer cancel()
	defer context.AfterFunc(parent, cancel)()
	defer context.AfterFunc(s.b.life, cancel)()

	nc, err := s.b.cfg.dial(ctx, s.addr.String())
	if err != nil {
		return nil, s.unreachable("connect to", err)
	}
	inline := neverBlocks(nc)
	if s.b.cfg.tls != nil {
		secured := tls.Client(nc, s.tlsConfig())
		if err := secured.HandshakeContext(ctx); err != nil {
			nc.Close() //nolint:errcheck // it is not used
			return nil, s.insecure(err)
		}
		nc = secured
	}
	answers := codec.NewAnswerReader(nc)
	if err := s.authenticate(ctx, nc, answers); err != nil {
		nc.Close() //nolint:errcheck // it is not used
		return nil, err
	}
	return newConn(s, nc, answers, own, inline), nil
}

func (s *server) unreachable(what string, err error) error {
	return fmt.Errorf("%w: cannot %s %v: %w", locker.ErrUnavailable, what, s.addr, blameless(err))
}

// insecure says why there is no TLS with the server. A certificate that is not
// trusted does not become so by trying again; what else there is may pass.
func (s *server) insecure(err error) error {
	if untrusted := new(tls.CertificateVerificationError); errors.As(err, &untrusted) {
		return fmt.Errorf("%w: the certificate of %v is not trusted: %w", locker.ErrAuth, s.addr, err)
	}
	return s.unreachable("do a TLS handshake with", err)
}

func (s *server) tlsConfig() *tls.Config {
	cfg := s.b.cfg.tls.Clone()
	if cfg.ServerName == "" {
		cfg.ServerName = s.addr.host
	}
	return cfg
}

// neverBlocks says whether writes go to a buffer of the kernel. Elsewhere, as
// with a net.Pipe or a tunnel, a write may wait for the other end to read.
func neverBlocks(nc net.Conn) bool {
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
}

// authenticate shows the secret, if there is one, and waits for the answer.
func (s *server) authenticate(ctx context.Context, nc net.Conn, answers *codec.AnswerReader) error {
	if len(s.b.cfg.secret) == 0 {
		return nil
	}
	defer context.AfterFunc(ctx, func() { nc.Close() })() //nolint:errcheck // it fails what is under way
	req := codec.Request{Command: codec.Auth, Secret: s.b.cfg.secret}
	if _, err := nc.Write(codec.AppendRequest(nil, &req)); err != nil {
		return s.unreachable("authenticate to", err)
	}
	var a codec.Answer
	if err := answers.Read(&a); err != nil {
		return s.unreachable("authenticate to", err)
	}
	switch {
	case a.Status == codec.OK && fits(codec.Auth, &a):
		return nil
	case a.Status == codec.ErrAuth:
		return fmt.Errorf("%w by %v", locker.ErrAuth, s.addr)
	case a.Status == codec.Failed:
		// Going on without would hide that these are not the servers that the
		// secret was meant for.
		return fmt.Errorf("%w by %v: it has no secret, or knows none (%v)", locker.ErrAuth, s.addr, &a)
	}
	return s.unreachable("authenticate to", errMispaired)
}
