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

// A transport is a connection that is ready for requests.
type transport struct {
	nc      net.Conn // over TLS, if it is spoken
	raw     net.Conn // without
	answers *codec.AnswerReader
	inline  bool // a write of little never blocks
}

// dial makes a connection of the base protocol. It is listed and its reader
// runs.
func (s *server) dial(ctx context.Context, own bool) (*conn, error) {
	t, err := s.reach(ctx)
	if err != nil {
		return nil, err
	}
	c := newConn(s, t.nc, t.answers, own, t.inline)
	if err := s.adopt(c); err != nil {
		return nil, err
	}
	return c, nil
}

// reach connects, unless the gate is shut, and notes how it went.
func (s *server) reach(ctx context.Context) (transport, error) {
	s.mu.Lock()
	err := s.gate.check(time.Now())
	s.mu.Unlock()
	if err != nil {
		return transport{}, err
	}
	t, err := s.connect(ctx, dialTimeout)
	if ctx.Err() != nil || s.b.life.Err() != nil { // it says nothing about the server to others
		if t.nc != nil {
			t.nc.Close() //nolint:errcheck // it is not used
		}
		if s.b.life.Err() != nil {
			return transport{}, locker.ErrClosed
		}
		// The caller's time was too short to connect in: a wait that ends here
		// must not look as if somebody else held the key.
		return transport{}, fmt.Errorf("%w: not connected to %v in time: %w", locker.ErrUnavailable, s.addr, context.Cause(ctx))
	}
	s.note(err)
	return t, err
}

// note tells the gate how an attempt to connect went.
func (s *server) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate.note(time.Now(), err)
}

// connect makes a transport: dialled, encrypted and authenticated within a
// time.
func (s *server) connect(parent context.Context, timeout time.Duration) (transport, error) {
	// The caller's deadline is kept from the dialler: package net obeys it as
	// a number, and fails a moment before the caller's context has ended, as
	// if it were the server's fault.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(parent), timeout)
	defer cancel()
	defer context.AfterFunc(parent, cancel)()
	defer context.AfterFunc(s.b.life, cancel)()

	raw, err := s.b.cfg.dial(ctx, s.addr.String())
	if err != nil {
		return transport{}, s.unreachable("connect to", err)
	}
	t := transport{nc: raw, raw: raw, inline: neverBlocks(raw)}
	if s.b.cfg.tls != nil {
		secured := tls.Client(raw, s.tlsConfig())
		if err := secured.HandshakeContext(ctx); err != nil {
			raw.Close() //nolint:errcheck // it is not used
			return transport{}, s.insecure(err)
		}
		t.nc = secured
	}
	t.answers = codec.NewAnswerReader(t.nc)
	if err := s.authenticate(ctx, t.nc, t.answers); err != nil {
		t.nc.Close() //nolint:errcheck // it is not used
		return transport{}, err
	}
	return t, nil
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
