//go:build unix

package faults

import "github.com/distributed-go/distributed/e2e/internal/witness"

type (
	record   = witness.Record
	interval = witness.Interval
	death    = witness.Death
)
