//go:build unix

package once

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

// mutantsAtOnce is how many campaigns look for bugs at a time.
const mutantsAtOnce = 2

// TestMutants plants each bug and runs the campaign that must catch it; without
// -full only those that -only names, for a build takes longer than all the rest.
func TestMutants(t *testing.T) {
	planting.Hunt(t, mutants, 0, mutantsAtOnce)
}
