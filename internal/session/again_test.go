package session

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/distributed-go/distributed/codec"
)

// inLots connects, has as many locks granted as given, and connects again with
// a window that is smaller. The requests have the IDs from 1 on.
func inLots(t *testing.T, locks, window int) (*phone, []*Call) {
	t.Helper()
	p := newPhone(t)
	p.naming.window = window
	p.connects()
	var calls []*Call
	for i := range locks {
		calls = append(calls, p.locks(fmt.Sprint("k", i+1)))
		p.line(grantOf(calls[i].Request.ID))
	}
	p.said = nil
	p.Cut(p.now, p.conn)
	return p, calls
}

func renewalOf(id uint64) codec.Answer {
	return codec.Answer{ID: id, Status: codec.OK, TTL: 10 * time.Second, HasTTL: true}
}

// TestHoldsAreNamedByAndBy: sync comes behind the last, and what wants a lease
// behind sync.
func TestHoldsAreNamedByAndBy(t *testing.T) {
	p, _ := inLots(t, 4, 2)
	p.connects()
	p.sends("5 n", "6 n")
	p.locks("new")
	p.Do(p.now, &Call{Tag: "e", Request: codec.Request{Command: codec.Enqueue}})
	p.Do(p.now, &Call{Tag: "ping", Request: codec.Request{Command: codec.Ping}})
	p.Beat(p.now)
	p.sends("7 ping", "8 beat")
	p.line(renewalOf(6))
	p.sends("9 n")
	p.line(renewalOf(5))
	p.sends("10 n")
	p.line(renewalOf(9))
	p.sends("11 sync", "12 l", "13 e")
	p.line(renewalOf(10))
	p.locks("newer")
	p.sends("14 l")
	if p.naming.spare.head != nil || p.naming.asked != 0 {
		t.Errorf("something is left of the naming: %+v", p.naming)
	}
}

// TestAHoldThatEndsBeforeItIsNamed is not named, and released at once.
func TestAHoldThatEndsBeforeItIsNamed(t *testing.T) {
	p, calls := inLots(t, 3, 1)
	p.connects()
	p.sends("4 n")
	p.Release(p.now, calls[1].Hold, &Call{Tag: "release"})
	p.sends("5 r")
	p.line(codec.Answer{ID: 5, Status: codec.OK})
	p.line(codec.Answer{Notice: codec.NoticeLost, Key: []byte("k3"), Token: calls[2].Hold.Token, HasToken: true, Reason: codec.ReasonRevoked})
	p.hears("release ok", "lost k3 revoked")
	p.line(renewalOf(4))
	p.sends("6 sync")
}

// TestBeatsCountForWhatIsNamed and for nothing else.
func TestBeatsCountForWhatIsNamed(t *testing.T) {
	p, calls := inLots(t, 2, 1)
	before := p.Since(calls[1].Hold)
	p.now += time.Second
	p.connects()
	p.Beat(p.now)
	p.sends("3 n", "4 beat")
	p.line(renewalOf(3))
	p.sends("5 n")
	p.line(codec.Answer{ID: 4, Status: codec.OK})
	if got := p.Since(calls[0].Hold); got != p.now {
		t.Errorf("the first counts from %v ago", p.now-got)
	}
	if got := p.Since(calls[1].Hold); got != before {
		t.Errorf("the second, which is not confirmed, counts from %v ago", p.now-got)
	}
	p.line(renewalOf(5))
	p.sends("6 sync")
}

// TestAResumeThatIsCutOff begins anew, and names everything.
func TestAResumeThatIsCutOff(t *testing.T) {
	p, calls := inLots(t, 3, 1)
	p.connects()
	p.sends("4 n")
	late := p.locks("new")
	p.line(renewalOf(4))
	p.sends("5 n")
	p.Cut(p.now, p.conn)
	p.connects()
	p.sends("6 n")
	p.line(codec.Answer{ID: 5, Status: codec.OK}) // nobody asked over this one
	p.line(renewalOf(6))
	p.line(renewalOf(7))
	p.line(renewalOf(8))
	p.sends("7 n", "8 n", "9 sync", "10 l")
	p.hears()
	if late.Done() || !slices.ContainsFunc(calls, func(c *Call) bool { return c.Hold.Held() }) {
		t.Error("something ended")
	}
}

// TestAResumeOfManyCostsLittle: neither are more requests on their way than the
// window allows, nor is there something of its own for each hold.
func TestAResumeOfManyCostsLittle(t *testing.T) {
	const holds = 50_000
	a := new(askers)
	c := NewClient(a, codec.Greeting{Name: "n"})
	conn := c.Connect(0)
	welcome := codec.Answer{Status: codec.OK, Version: 1}
	c.Line(0, conn, &welcome)
	for i := range holds {
		call := &Call{Hold: &Hold{Key: fmt.Sprint("orders/", i)}, Request: codec.Request{Command: codec.Lock}}
		c.Do(0, call)
		answer := grantOf(call.Request.ID)
		answer.Token = tokenOf(i)
		c.Line(0, conn, &answer)
	}
	*a = askers{ids: make([]uint64, 0, 2*holds)}
	conn = c.Connect(0)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c.Line(0, conn, &welcome)
	most, n := 0, 0
	for answer := renewalOf(0); n < len(a.ids); n++ {
		most = max(most, len(a.ids)-n)
		answer.ID = a.ids[n]
		c.Line(0, conn, &answer)
	}
	runtime.ReadMemStats(&after)
	if n != holds+2 || most > nameWindow+2 { // hello and sync too
		t.Errorf("%d requests for %d holds, %d of them at once", n, holds, most)
	}
	if per := (after.TotalAlloc - before.TotalAlloc) / holds; per > 120 { // 300 B for each of the window, and its key
		t.Errorf("%d B allocated for each hold", per)
	}
}

// Askers notes the IDs of requests.
type askers struct {
	silent
	ids []uint64
}

func (a *askers) Send(r *codec.Request) { a.ids = append(a.ids, r.ID) }
