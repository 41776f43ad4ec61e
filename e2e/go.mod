module github.com/distributed-go/distributed/e2e

go 1.25.0

require (
	github.com/anishathalye/porcupine v1.3.1
	github.com/distributed-go/distributed v0.0.0
	golang.org/x/sync v0.20.0
	golang.org/x/sys v0.45.0
	modernc.org/sqlite v1.50.0
)

require (
	github.com/cenkalti/backoff/v4 v4.3.0 // indirect
	github.com/dustin/go-humanize v1.0.1 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/mattn/go-isatty v0.0.20 // indirect
	github.com/ncruces/go-strftime v1.0.0 // indirect
	github.com/remyoudompheng/bigfft v0.0.0-20230129092748-24d4a6f8daec // indirect
	go.etcd.io/bbolt v1.5.0 // indirect
	modernc.org/libc v1.72.0 // indirect
	modernc.org/mathutil v1.7.1 // indirect
	modernc.org/memory v1.11.0 // indirect
)
