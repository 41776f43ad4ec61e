package session

import (
	"reflect"
	"unsafe"

	"github.com/distributed-go/distributed/internal/table"
)

// A copier copies a world with everything that it points to, so that a search
// can go on from one state in more than one way. It works on any type, because
// it goes by reflection: the code that is searched needs nothing for it. Strings,
// byte slices, functions and values of keys are shared; they do not change. Other
// pointers must be to the beginning of what was allocated.
type copier struct {
	plans map[reflect.Type]*plan
	done  map[unsafe.Pointer]unsafe.Pointer
}

// A plan says what is left to do after a value was copied as it is.
type plan struct {
	t    reflect.Type
	deep func(c *copier, at unsafe.Pointer) // nil if nothing
}

// A value is a part of what the table keeps it in, which is copied as a whole.
var shared = reflect.TypeFor[*table.Value]()

func newCopier() *copier {
	return &copier{plans: make(map[reflect.Type]*plan), done: make(map[unsafe.Pointer]unsafe.Pointer)}
}

// world returns a copy.
func (c *copier) world(w *world) *world {
	clear(c.done)
	p := unsafe.Pointer(w)
	return (*world)(c.pointer(c.plan(reflect.TypeFor[world]()), p))
}

// pointer returns where the copy of what p points to is.
func (c *copier) pointer(elem *plan, p unsafe.Pointer) unsafe.Pointer {
	if q, ok := c.done[p]; ok {
		return q
	}
	v := reflect.New(elem.t)
	q := v.UnsafePointer()
	c.done[p] = q
	v.Elem().Set(reflect.NewAt(elem.t, p).Elem())
	if elem.deep != nil {
		elem.deep(c, q)
	}
	return q
}

func (c *copier) plan(t reflect.Type) *plan {
	if p, ok := c.plans[t]; ok {
		return p
	}
	p := &plan{t: t}
	c.plans[t] = p
	switch t.Kind() {
	case reflect.Pointer:
		if t == shared {
			return p
		}
		var elem *plan // types can contain themselves, so that it is not planned before it is needed
		p.deep = func(c *copier, at unsafe.Pointer) {
			if elem == nil {
				elem = c.plan(t.Elem())
			}
			if x := (*unsafe.Pointer)(at); *x != nil {
				*x = c.pointer(elem, *x)
			}
		}
	case reflect.Struct:
		p.deep = c.planStruct(t)
	case reflect.Array:
		if elem, n := c.plan(t.Elem()), t.Len(); elem.deep != nil || t.Elem().Kind() == reflect.Struct {
			p.deep = func(c *copier, at unsafe.Pointer) { elem.each(c, at, n) }
		}
	case reflect.Slice:
		p.deep = c.planSlice(t)
	case reflect.Map:
		p.deep = c.planMap(t)
	case reflect.Interface:
		p.deep = func(c *copier, at unsafe.Pointer) {
			v := reflect.NewAt(t, at).Elem()
			if x := v.Elem(); x.Kind() == reflect.Pointer && !x.IsNil() && x.Type() != shared {
				q := c.pointer(c.plan(x.Type().Elem()), x.UnsafePointer())
				v.Set(reflect.NewAt(x.Type().Elem(), q))
			}
		}
	}
	return p
}

func (p *plan) each(c *copier, at unsafe.Pointer, n int) {
	if p.deep == nil {
		return
	}
	pointers := p.t.Kind() == reflect.Pointer
	for i := range n {
		x := unsafe.Add(at, uintptr(i)*p.t.Size())
		if !pointers || *(*unsafe.Pointer)(x) != nil {
			p.deep(c, x)
		}
	}
}

func (c *copier) planStruct(t reflect.Type) func(*copier, unsafe.Pointer) {
	type field struct {
		offset uintptr
		plan   *plan
	}
	var fields []field
	for i := range t.NumField() {
		f := t.Field(i)
		switch f.Type.Kind() {
		case reflect.Pointer, reflect.Struct, reflect.Array, reflect.Slice, reflect.Map, reflect.Interface:
			if p := c.plan(f.Type); p.deep != nil {
				fields = append(fields, field{f.Offset, p})
			}
		}
	}
	if len(fields) == 0 {
		return nil
	}
	return func(c *copier, at unsafe.Pointer) {
		for _, f := range fields {
			f.plan.deep(c, unsafe.Add(at, f.offset))
		}
	}
}

func (c *copier) planSlice(t reflect.Type) func(*copier, unsafe.Pointer) {
	if t.Elem().Kind() == reflect.Uint8 {
		return nil
	}
	var elem *plan
	return func(c *copier, at unsafe.Pointer) {
		if elem == nil {
			elem = c.plan(t.Elem())
		}
		v := reflect.NewAt(t, at).Elem()
		if v.Len() == 0 {
			v.SetZero()
			return
		}
		anew := reflect.MakeSlice(t, v.Len(), v.Len())
		reflect.Copy(anew, v)
		v.Set(anew)
		elem.each(c, anew.UnsafePointer(), anew.Len())
	}
}

func (c *copier) planMap(t reflect.Type) func(*copier, unsafe.Pointer) {
	var elem *plan
	return func(c *copier, at unsafe.Pointer) {
		if elem == nil {
			elem = c.plan(t.Elem())
		}
		v := reflect.NewAt(t, at).Elem()
		if v.IsNil() {
			return
		}
		anew := reflect.MakeMapWithSize(t, v.Len())
		for it := v.MapRange(); it.Next(); {
			x := reflect.New(elem.t)
			x.Elem().Set(it.Value())
			if elem.deep != nil {
				elem.deep(c, x.UnsafePointer())
			}
			anew.SetMapIndex(it.Key(), x.Elem())
		}
		v.Set(anew)
	}
}
