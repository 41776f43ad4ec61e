//go:build linux

package etcdcluster

import (
	"testing"

	"github.com/distributed-go/distributed/e2e/internal/planting"
)

// The campaigns that catch them, with the time that they need.
var (
	faultsFor = []string{"-cluster-seconds", "30", "-limit", "100s"}
	enough    = []string{"-limit", "100s"}
)

// mutants are bugs that locks on etcd have had, and must not have here.
var mutants = []planting.Mutant{
	{
		Name:  "a waiter is granted on the event, without a look at the revisions",
		Bug:   []planting.Edit{{"etcd/queue.go", "		q.line.deleted(name, at)\n", "		q.line.deleted(name, at)\n		if len(q.waiting) > 0 {\n			b.heldLocked(q.waiting[0])\n		}\n"}},
		Run:   "TestCluster",
		Args:  faultsFor,
		Kinds: []string{"overlap"},
	},
	{
		Name: "deadline from the receipt of the keepalive",
		Bug: []planting.Edit{{"etcd/lease.go",
			"	stamp := l.b.now()\n	granted, err := p.beat(ctx, l.id)\n",
			"	granted, err := p.beat(ctx, l.id)\n	stamp := l.b.now()\n"}},
		Run:   "TestSlowAnswers",
		Args:  enough,
		Kinds: []string{"overlap"},
	},
	{
		Name:  "a deleted key is not missed",
		Bug:   []planting.Edit{{"etcd/hub.go", "	if len(ops) == 0 {\n", "	if len(ops) >= 0 {\n"}},
		Run:   "TestDeletedKeys",
		Args:  enough,
		Kinds: []string{"revoked"},
	},
	{
		Name:  "release by the prefix of the key",
		Bug:   []planting.Edit{{"etcd/erase.go", "	o := clientv3.OpDelete(key)\n", "	o := clientv3.OpDelete(key[:len(key)-16], clientv3.WithPrefix())\n"}},
		Run:   "TestCluster",
		Args:  faultsFor,
		Kinds: []string{"overlap"},
	},
	{
		Name:  "those who came before are not counted",
		Bug:   []planting.Edit{{"etcd/line.go", "			return true\n		}\n		left -= m.weight\n", "			return true\n		}\n"}},
		Run:   "TestCluster",
		Args:  faultsFor,
		Kinds: []string{"overlap"},
	},
	{
		Name: "what was not answered is forgotten",
		Bug: []planting.Edit{
			{"etcd/erase.go", "	e.lease.taintLocked()\n	twice :=", "	twice :="},
			{"etcd/erase.go", "	twice()\n	time.AfterFunc(anew, twice)\n", "	_ = time.AfterFunc\n	_ = twice\n"},
		},
		Run:   "TestLostAnswers",
		Args:  enough,
		Kinds: []string{"takeover", "unserved", "leak", "residue"},
	},
	{
		Name: "what a broken watch has missed is not asked for",
		Bug: []planting.Edit{
			{"etcd/hub.go", "				q.line.forget()\n", "				_ = q\n"},
			{"etcd/queue.go", "	if len(q.waiting) > 0 && b.hub.from > 0 && (", "	if len(q.waiting) > 0 && b.hub.from < 0 && ("},
		},
		Run:   "TestMissedDeletions",
		Args:  enough,
		Kinds: []string{"takeover", "unserved"},
	},
}

// TestMutantsApply sees that each bug can still be planted.
func TestMutantsApply(t *testing.T) { planting.Apply(t, mutants) }

// TestMutants plants each bug and runs the campaign that must catch it, with -full
// or for those that -only names: it builds etcd's server for each.
func TestMutants(t *testing.T) {
	planting.Hunt(t, mutants, 0, 1) // faults.TestMutants sees that the machinery works
}
