//go:build unix

package bench

import (
	"time"

	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/internal/measure"
)

// A Report is what was measured. Numbers that are not known are absent.
type Report struct {
	// Time is when the run began.
	Time    time.Time       `json:"time"`
	Seconds float64         `json:"seconds"`
	Machine measure.Machine `json:"machine"`
	// Server is where the servers were; absent if one was started for the run,
	// in a process of its own.
	Server string `json:"server,omitempty"`
	Block  string `json:"block"`
	Rounds int    `json:"rounds"`
	// Others is what share of the processor time that was used in the run other
	// processes used; absent where the system does not say.
	Others *float64 `json:"others_cpu_share,omitempty"`
	Rows   []Row    `json:"rows"`
	Held   *Held    `json:"held"`
}

// A Row is one workload, beside the limit it was measured in turns with.
type Row struct {
	// Name says what was done.
	Name string `json:"name"`
	// Label is short for Name in a plot that says the rest already, and Rival
	// says that it is not this project's client.
	Label string `json:"label"`
	Rival bool   `json:"rival,omitempty"`
	// Unit is that of Value and Limit: "µs" of the median pair, where less is
	// better, or "/s".
	Unit string `json:"unit"`
	// Limit is what Ratio is of, by its name.
	LimitName string          `json:"limit_name"`
	Value     *figures.Spread `json:"value,omitempty"`
	Limit     *figures.Spread `json:"limit,omitempty"`
	// Ratio is Value over Limit, block by block.
	Ratio *figures.Spread `json:"ratio,omitempty"`
	// Copy is the ratio of the limit's second copy to the limit. Where it is
	// outside 0.95 to 1.05 the machine was too busy, and Discarded is set.
	Copy      *figures.Spread `json:"copy,omitempty"`
	Discarded bool            `json:"discarded,omitempty"`
	Blocks    int             `json:"blocks,omitempty"`
	Pairs     int             `json:"pairs,omitempty"`
	// P99 is of a pair in µs, or of a hand-over between two owners.
	P99 *float64 `json:"p99_us,omitempty"`
	// Fairness is the pairs of the luckiest goroutine over those of the
	// unluckiest.
	Fairness *float64 `json:"max_over_min,omitempty"`
	// CPU is µs of processor time for a pair, of a client and of its server.
	CPU      *CPU `json:"cpu_us_per_pair,omitempty"`
	LimitCPU *CPU `json:"limit_cpu_us_per_pair,omitempty"`
	// Missing says why there are no figures.
	Missing string `json:"missing,omitempty"`
}

// CPU is processor time for a pair, in µs. Server is 0 where it is not known.
type CPU struct {
	Client float64 `json:"client"`
	Server float64 `json:"server,omitempty"`
}

// Held is what locks cost while they are held.
type Held struct {
	Locks    int     `json:"locks"`
	Taken    float64 `json:"taken_s"`
	Released float64 `json:"released_s"`
	// ClientBytes and ServerBytes are of the heap for each lock, after two
	// collections: in the client without the key's bytes and the Mutex itself,
	// in the server with its copy of the key.
	ClientBytes float64  `json:"client_heap_bytes_per_lock"`
	ServerBytes *float64 `json:"server_heap_bytes_per_lock,omitempty"`
	// Goroutines and Sockets are those that the client has for all of them.
	Goroutines int `json:"goroutines"`
	Sockets    int `json:"sockets"`
	// IdleSeconds is for how long all were held and nothing else was done, with
	// leases of TTLSeconds. Wire is the bytes a second that went over the wire
	// meanwhile, both ways, and WireOfFew those that ten locks needed.
	TTLSeconds  float64  `json:"ttl_s"`
	IdleSeconds float64  `json:"idle_s"`
	Wire        *float64 `json:"idle_wire_bytes_per_s,omitempty"`
	WireOfFew   *float64 `json:"idle_wire_bytes_per_s_of_10,omitempty"`
}

// noisy says whether a second copy of the same thing differs too much from it.
func noisy(copies *figures.Spread) bool {
	return copies == nil || copies.Median < 0.95 || copies.Median > 1.05
}

// row makes a row of a contestant and the two copies of its limit; f is what is
// compared of a block.
func row(name, label, unit, limit string, c *measure.Contestant, f func(*measure.Block) float64, yards []*measure.Contestant, g func(*measure.Block) float64) Row {
	base := yards[0].Of(g)
	r := Row{
		Name: name, Label: label, Unit: unit, LimitName: limit, Blocks: len(c.Blocks), Pairs: c.Pairs(),
		Value: c.Of(f).Spread(), Limit: base.Spread(), Ratio: c.Of(f).Over(base).Spread(), Copy: yards[1].Of(g).Over(base).Spread(),
		CPU: cpu(c), LimitCPU: cpu(yards[0]),
	}
	r.Discarded = noisy(r.Copy)
	return r
}

func cpu(c *measure.Contestant) *CPU {
	if c.Pairs() == 0 {
		return nil
	}
	client, server := c.CPU()
	return &CPU{Client: client, Server: server}
}
