package mutex

import (
	"context"
	"sync/atomic"
)

// A visit is one call of a function by Do or RDo of an RW. The context of the
// function has it, and so does every one that derives from it.
type visit struct {
	over atomic.Bool // the function has returned: its context may live on
}

// A visitKey is the key of contexts to visits of an RW.
type visitKey struct{ visited *RW }

// visit returns f with a context that shows the visit.
func (m *RW) visit(f func(ctx context.Context) error) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		v := new(visit)
		defer v.over.Store(true)
		return f(context.WithValue(ctx, visitKey{m}, v))
	}
}

// check returns why m cannot be locked with a context.
func (m *RW) check(ctx context.Context, op string) error {
	if err := m.ready(); err != nil {
		return err
	}
	if v, ok := ctx.Value(visitKey{m}).(*visit); ok && !v.over.Load() {
		return m.writer.acquirer.Error(op, ErrUpgrade)
	}
	return nil
}
