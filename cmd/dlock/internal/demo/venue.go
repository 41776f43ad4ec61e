package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/etcd"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/once"
)

// An Open opens a client of servers.
type Open func(url string, opts ...distributed.Option) (*distributed.Client, error)

// open is o, without a log; nil is distributed.Open.
func (o Open) open(url string, opts ...distributed.Option) (*distributed.Client, error) {
	if o == nil {
		o = distributed.Open
	}
	return o(url, append(opts, locker.WithLogger(slog.New(slog.DiscardHandler)))...)
}

// A Venue is where rows are played. The zero Venue starts lock servers in this
// process, some for each row.
type Venue struct {
	// Etcd is the URL of an etcd to play at; "" is none. Each row gets a prefix of
	// its own there, below the URL's.
	Etcd string
	// Open opens clients, as workers do; nil is distributed.Open.
	Open Open
}

// An Omission is a row that cannot be played at a venue.
type Omission struct {
	Name string `json:"name"`
	// Why says what the row needs.
	Why string `json:"why"`
}

// Rows are those of all rows that can be played here, and those that cannot.
func (v Venue) Rows() (can []Row, cannot []Omission) {
	if v.Etcd == "" {
		return Rows, nil
	}
	for _, r := range Rows {
		if r.needs != "" {
			cannot = append(cannot, Omission{r.Name, r.needs})
			continue
		}
		if r.atEtcd != "" {
			r.Claim = r.atEtcd
		}
		can = append(can, r)
	}
	return can, cannot
}

const (
	// etcdTTL is the lease of workers that are to be killed where nobody sees that
	// they are dead: the least that an etcd grants with the settings it comes with.
	etcdTTL = 2 * time.Second
	// etcdLate is how much later than a lease the next may hold there. Etcd looks
	// for leases that ran out twice a second, and ends them through its log.
	etcdLate = 3 * time.Second
)

// A death is what the loss of a holder costs at a venue.
type death struct {
	ttl    time.Duration // the lease that workers ask for; 0 is the server's default
	within time.Duration // how soon after a kill the next must hold
	late   time.Duration // how much later than the end of a lease the next may hold
}

func (v Venue) death() death {
	if v.Etcd == "" {
		return death{within: crashBound, late: pauseBound}
	}
	return death{ttl: etcdTTL, within: etcdTTL + etcdLate, late: etcdLate}
}

// timeouts are those of a row and of all. At an etcd each hand-over after a death
// takes a lease, and its disk may be slow.
func (v Venue) timeouts() (row, all time.Duration) {
	if v.Etcd == "" {
		return rowTimeout, demoTimeout
	}
	return time.Minute, 5 * time.Minute
}

// url is the URL of a place of its own in the etcd.
func (v Venue) url() (string, error) {
	u, err := locker.ParseURL(v.Etcd)
	if err != nil {
		return "", err
	}
	if u.Path == "" {
		u.Path = etcd.DefaultPrefix
	}
	if u.Path[len(u.Path)-1] != '/' {
		u.Path += "/"
	}
	u.Path += "demo-" + rand.Text()
	url := u.String()
	if len(u.Query) > 0 {
		url += "?" + u.Query.Encode()
	}
	return url, nil
}

// tidyTimeout bounds what is done for an etcd to be left as it was.
const tidyTimeout = 3 * time.Second

// forget undoes that something is done. What a row leaves besides goes with the
// leases of its workers.
func (v Venue) forget(url, key string) (err error) {
	c, err := v.Open.open(url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	ctx, cancel := context.WithTimeout(context.Background(), tidyTimeout)
	defer cancel()
	o := distributed.NewOnce(c, key)
	done, err := o.Done(ctx)
	if err == nil && done {
		err = o.Reset(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s of %s may be left behind: %w", once.Prefix+key, url, err)
	}
	return nil
}
