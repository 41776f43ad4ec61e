package server_test

import (
	"log/slog"
	"net"
	"testing"

	"github.com/distributed-go/distributed/server"
)

// start returns a server with the config, that says nothing.
func start(t testing.TB, cfg server.Config) *server.Server {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// listenAndServe serves on a free port until the test ends.
func listenAndServe(t testing.TB, s *server.Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; err != server.ErrServerClosed {
			t.Errorf("Serve = %v, want ErrServerClosed", err)
		}
	})
	return l.Addr().String()
}

func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return nc
}

// pipe returns a client's end of a connection that the server serves.
func pipe(s *server.Server) net.Conn {
	ours, theirs := net.Pipe()
	go s.ServeConn(theirs)
	return ours
}
