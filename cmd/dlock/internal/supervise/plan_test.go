//go:build unix

package supervise

import (
	"testing"
	"time"
)

// at is an instant of the tests, in seconds.
func at(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second))) }

func TestPlan(t *testing.T) {
	type step struct {
		event string // "renewed" (at is the new deadline), "stopping", "lost" or "finish"
		at    float64
		asks  bool
	}
	for _, c := range []struct {
		name     string
		deadline float64
		steps    []step
		kill     float64
	}{
		{"a hold about to end leaves time until its deadline", 10, []step{{"stopping", 8, true}}, 10},
		{"a late stop leaves what is left", 10, []step{{"stopping", 9.9, true}}, 10},
		{"a stop after the deadline leaves nothing", 10, []step{{"stopping", 11, true}}, 10},
		{"a refusal leaves a second", 10, []step{{"lost", 5, true}}, 6},
		{"a refusal just before the deadline leaves less", 10, []step{{"lost", 9.5, true}}, 10},
		{"a loss after a pause leaves nothing", 10, []step{{"lost", 60, true}}, 10},
		{"a refusal after the stop counts the second from the stop", 10, []step{{"stopping", 8, true}, {"lost", 8.5, false}}, 9},
		{"the deadline after the stop comes as announced", 10, []step{{"stopping", 9.5, true}, {"lost", 10, false}}, 10},
		{"a renewal moves the deadline", 10, []step{{"renewed", 20, false}, {"stopping", 18, true}}, 20},
		{"a renewal after the stop buys no time", 10, []step{{"stopping", 8, true}, {"renewed", 20, false}}, 10},
		{"what is left behind gets a second", 10, []step{{"finish", 3, true}}, 4},
		{"and less if the hold ends meanwhile", 10, []step{{"finish", 9.5, true}, {"stopping", 9.6, false}}, 10},
		{"a second ending never gives more time", 10, []step{{"lost", 5, true}, {"finish", 5.5, false}}, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := plan{deadline: at(c.deadline)}
			for _, s := range c.steps {
				var asks bool
				switch s.event {
				case "renewed":
					p.renewed(at(s.at))
				case "stopping":
					asks = p.stopping(at(s.at))
				case "lost":
					asks = p.lost(at(s.at))
				case "finish":
					asks = p.finish(at(s.at))
				default:
					t.Fatalf("unknown event %q", s.event)
				}
				if asks != s.asks {
					t.Errorf("%s at %v: asks the group to end: %v, want %v", s.event, s.at, asks, s.asks)
				}
			}
			if !p.kill.Equal(at(c.kill)) {
				t.Errorf("kills at %v, want %v", p.kill.Sub(at(0)), at(c.kill).Sub(at(0)))
			}
		})
	}
}

func TestPlanLooksOftenEnough(t *testing.T) {
	p := plan{deadline: at(12)}
	if got := p.look(at(0)); !got.Equal(at(6)) {
		t.Errorf("12 s before the deadline it looks again after %v, want half of that", got.Sub(at(0)))
	}
	if got := p.look(at(13)); !got.After(at(13)) {
		t.Errorf("after the deadline it looks again at %v: a loop without a pause", got)
	}
}
