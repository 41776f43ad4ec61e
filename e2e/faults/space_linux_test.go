package faults

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/figures"
)

var dropBy = flag.String("drop-by", "", "the tool that drops packets between network namespaces: iptables, nft, or ip; the first that is installed by default")

// The tools that make packets disappear: a rule of either kind, or, with ip alone,
// a neighbour that does not exist, to whom they are sent.
const byIPTables, byNFTables, byNeighbours = "iptables", "nft", "ip"

const (
	spaceTTL              = time.Second
	serverSpace           = "10.203.0.1"
	clientSpace           = "10.203.0.2"
	spaceKeys, spaceLanes = 8, 8
)

// TestNamespaces puts the server and one half of the clients in one network
// namespace and the other half in a second, and has the kernel drop what goes
// between them, both ways and either way alone, for three TTLs: nobody is told
// that a packet was lost. It needs root, and says so where it cannot run.
func TestNamespaces(t *testing.T) {
	mostlyWaits(t)
	n := newNetwork(t)
	r := newRigWithout(t)
	var err error
	r.server, err = launchServer(t.Context(), n.near, serverSpace+":0", serverConfig{})
	assert.Sure(t, err)
	t.Cleanup(func() { r.server.Kill() })
	args := workerArgs{
		URL: urlOf(r.server.Addr, true), TTL: spaceTTL, Keys: keysOf("space", spaceKeys), Lanes: spaceLanes, Random: true,
		HoldMin: time.Millisecond, HoldMax: 200 * time.Millisecond, Pause: 10 * time.Millisecond,
	}
	var players []*player
	for _, space := range []string{n.near, n.far, n.near, n.far} {
		p, err := r.startIn(space, args)
		assert.Sure(t, err)
		players = append(players, p)
	}
	// These hold on to keys of their own, so that it can be seen that packets
	// are lost.
	args.Keys, args.Random, args.HoldMin, args.HoldMax = keysOf("far", spaceLanes), false, 0, 0
	far, err := r.startIn(n.far, args)
	assert.Sure(t, err)
	players = append(players, far)
	lost, ways := 0, [][2]bool{{true, true}, {true, false}, {false, true}}
	if !size.Full() {
		ways = ways[:1]
	}
	for _, ways := range ways {
		time.Sleep(r.between(spaceTTL, 2*spaceTTL)) // real time, as all of this: the kernel drops packets meanwhile
		n.drop(ways[0], ways[1])
		time.Sleep(3 * spaceTTL)
		lost = r.sum("report", players).Lost
		n.heal()
	}
	time.Sleep(2 * spaceTTL) // a connection comes back when TCP tries again, or when the client does
	for _, p := range players {
		r.stop(p)
	}
	watcher, err := r.startIn(n.near, workerArgs{URL: args.URL, TTL: spaceTTL, Keys: args.Keys, Lanes: 1, Once: true})
	assert.Sure(t, err)
	var found []campaign.Violation
	busy := -1
	for deadline := time.Now().Add(spaceTTL + 10*time.Second); busy != 0 && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		assert.Sure(t, watcher.Call(r.ctx, "busy", struct{}{}, &busy))
		if r.kept(watcher) {
			busy-- // its own hold, which has no end
		}
	}
	if busy != 0 {
		found = append(found, campaign.Violationf("residue", "%d holders and waiters are left", busy))
	}
	v := r.judgeRecords()
	v.found = append(v.found, found...)
	table := figures.NewTable("network namespaces", "TTL", "dropped by", "for", "ways", "holds", "lost", "violations")
	table.Row("two, joined by a veth pair", spaceTTL, n.how, 3*spaceTTL, []string{"both", "both, up, down"}[len(ways)/3], v.count, lost, len(v.found))
	campaign.Show(t, table)
	campaign.Report(t, v.found)
	if lost == 0 {
		t.Error("no lease was lost while packets were dropped: were they?")
	}
}

// kept says whether the first lane of a player holds.
func (r *rig) kept(p *player) bool {
	_, ok := r.follower.Holding(p.who(0))
	return ok
}

// A network is two namespaces that are joined.
type network struct {
	t         *testing.T
	near, far string
	how       string // a tool, by its name
}

// newNetwork makes one, and ends the test where that is not possible.
func newNetwork(t *testing.T) *network {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root: run the test as root, in a container if need be")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("network namespaces need ip(8), of iproute2")
	}
	n := &network{t: t, near: fmt.Sprintf("dlock-near-%d", os.Getpid()), far: fmt.Sprintf("dlock-far-%d", os.Getpid()), how: *dropBy}
	for _, tool := range []string{byIPTables, byNFTables, byNeighbours} {
		if _, err := exec.LookPath(tool); err == nil && n.how == "" {
			n.how = tool
		}
	}
	t.Cleanup(func() {
		for _, space := range []string{n.near, n.far} {
			_ = exec.Command("ip", "netns", "del", space).Run() // it may not have been made
		}
	})
	if out, err := exec.Command("ip", "netns", "add", n.near).CombinedOutput(); err != nil {
		t.Skipf("this root may not make network namespaces: %v: %s", err, out)
	}
	n.ip("netns add " + n.far)
	n.ip("link add veth0 netns " + n.near + " type veth peer name veth0 netns " + n.far)
	for space, addr := range map[string]string{n.near: serverSpace, n.far: clientSpace} {
		n.ip("-n " + space + " addr add " + addr + "/24 dev veth0")
		n.ip("-n " + space + " link set veth0 up")
		n.ip("-n " + space + " link set lo up")
	}
	return n
}

func (n *network) ip(args string) {
	n.t.Helper()
	n.run("ip " + args)
}

func (n *network) run(line string) {
	n.t.Helper()
	words := strings.Fields(line)
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		n.t.Fatalf("%s: %v: %s", line, err, out)
	}
}

// drop has what goes up to the server, and down from it, disappear without a
// trace.
func (n *network) drop(up, down bool) {
	n.t.Helper()
	for _, way := range []struct {
		on       bool
		from, to string
	}{{up, n.far, serverSpace}, {down, n.near, clientSpace}} {
		if !way.on {
			continue
		}
		in := "netns exec " + way.from + " "
		switch n.how {
		case byIPTables:
			n.ip(in + "iptables -A OUTPUT -d " + way.to + " -j DROP")
		case byNFTables:
			n.ip(in + "nft add table ip dlock")
			n.ip(in + "nft add chain ip dlock out { type filter hook output priority 0 ; }")
			n.ip(in + "nft add rule ip dlock out ip daddr " + way.to + " drop")
		default:
			n.ip("-n " + way.from + " neigh replace " + way.to + " lladdr 02:00:00:00:00:99 dev veth0 nud permanent")
		}
	}
}

// heal ends what drop began.
func (n *network) heal() {
	n.t.Helper()
	for space, to := range map[string]string{n.far: serverSpace, n.near: clientSpace} {
		switch n.how {
		case byIPTables:
			n.ip("netns exec " + space + " iptables -F OUTPUT")
		case byNFTables:
			n.ip("netns exec " + space + " nft flush ruleset")
		default:
			// The entry may be missing, or be one that the kernel has learnt.
			_ = exec.Command("ip", "-n", space, "neigh", "del", to, "dev", "veth0").Run()
		}
	}
}
