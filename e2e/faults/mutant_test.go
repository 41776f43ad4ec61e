//go:build unix

package faults

import (
	"testing"

	"github.com/distributed-go/distributed/e2e/internal/planting"
)

type (
	edit   = planting.Edit
	mutant = planting.Mutant
)

// TestMutantsApply sees that each bug can still be planted.
func TestMutantsApply(t *testing.T) { planting.Apply(t, mutants) }

// mutantsAtOnce is how many campaigns look for bugs at a time: they mostly wait.
const mutantsAtOnce = 3

// TestMutants plants each bug and runs the campaign that must catch it. Without
// -full it does so for one.
func TestMutants(t *testing.T) {
	beside(t)
	planting.Hunt(t, mutants, 1, mutantsAtOnce)
}
