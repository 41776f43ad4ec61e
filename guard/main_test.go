package guard

import (
	"os"
	"testing"

	"github.com/distributed-go/distributed/internal/leaktest"
)

func TestMain(m *testing.M) {
	if os.Getenv(writerEnv) != "" {
		os.Exit(writeUntilKilled(os.Args[1]))
	}
	leaktest.Main(m)
}
