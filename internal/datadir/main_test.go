package datadir

import (
	"testing"

	"github.com/distributed-go/distributed/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }
