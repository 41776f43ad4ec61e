package demo

import (
	"slices"
	"strings"
	"testing"
)

func names[T any](all []T, name func(T) string) (names []string) {
	for _, x := range all {
		names = append(names, name(x))
	}
	return names
}

func TestRowsOfVenues(t *testing.T) {
	all := names(Rows, func(r Row) string { return r.Name })
	can, cannot := Venue{}.Rows()
	if got := names(can, func(r Row) string { return r.Name }); !slices.Equal(got, all) || cannot != nil {
		t.Errorf("with servers of our own: %q, and not %v", got, cannot)
	}
	can, cannot = Venue{Etcd: "etcd://h"}.Rows()
	out := names(cannot, func(o Omission) string { return o.Name })
	if want := []string{"sharding", "value"}; !slices.Equal(out, want) || len(can)+len(out) != len(all) {
		t.Errorf("at an etcd %q are left out of %q, want %q", out, all, want)
	}
	for _, o := range cannot {
		if o.Why == "" {
			t.Errorf("%s is left out and does not say why", o.Name)
		}
	}
	for _, r := range can {
		if r.Name == crashRow.Name && r.Claim != crashRow.atEtcd {
			t.Errorf("claims %q at an etcd, which sees nobody die", r.Claim)
		}
	}
}

// Two demos at one etcd, and two rows of one, must not meet.
func TestPlacesInAnEtcd(t *testing.T) {
	for etcd, begins := range map[string]string{
		"etcd://h":                  "etcd://h/distributed/demo-",
		"etcd://h1:1,h2:2/app":      "etcd://h1:1,h2:2/app/demo-",
		"etcds://h/app/?user=me":    "etcds://h/app/demo-",
		"etcd://h/a/b?name=x&ttl=3": "etcd://h/a/b/demo-",
	} {
		v := Venue{Etcd: etcd}
		one, err1 := v.url()
		two, err2 := v.url()
		if err1 != nil || err2 != nil || !strings.HasPrefix(one, begins) || one == two {
			t.Errorf("%s: %q and %q, %v and %v, want two that begin with %q", etcd, one, two, err1, err2, begins)
		}
		_, query, _ := strings.Cut(etcd, "?")
		if _, kept, _ := strings.Cut(one, "?"); kept != query {
			t.Errorf("%s: %q has the parameters %q", etcd, one, kept)
		}
	}
	if _, err := (Venue{Etcd: "etcd"}).url(); err == nil {
		t.Error("what is no URL passed")
	}
}
