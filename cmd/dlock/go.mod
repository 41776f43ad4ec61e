module github.com/distributed-go/distributed/cmd/dlock

go 1.25.0

require github.com/distributed-go/distributed v0.0.0
