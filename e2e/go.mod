module github.com/distributed-go/distributed/e2e

go 1.25.0

require (
	github.com/anishathalye/porcupine v1.3.1
	github.com/distributed-go/distributed v0.0.0
	golang.org/x/sync v0.20.0
	golang.org/x/sys v0.45.0
)

require (
	github.com/cenkalti/backoff/v4 v4.3.0 // indirect
	go.etcd.io/bbolt v1.5.0 // indirect
)
