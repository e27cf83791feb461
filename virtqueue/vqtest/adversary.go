package vqtest

import (
	"math"

	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// Case is a chain at the border of what is allowed, or beyond.
type Case struct {
	Name string
	// Bad chains come out of the queue without buffers. The others come out with Len bytes.
	Bad bool
	Len uint32
	// Place adds the chain to d, which must be as NewCaseDriver made it; nothing is published.
	Place func(d *Driver)
}

// NewCaseDriver makes memory and a driver for a case. The ring has 8 descriptors, the memory two adjacent regions.
func NewCaseDriver(backing Backing, opt Options) *Driver {
	opt.Size = 8
	m := NewSplitMemory(backing, caseRegion, caseRegion)
	d := NewDriver(m, opt)
	return d
}

const (
	caseRegion = 1 << 16
	border     = BaseGPA + caseRegion   // where the second region begins
	outside    = BaseGPA + 2*caseRegion // behind guest memory
	inside     = BaseGPA + caseRegion/2 // an address that no ring area uses
)

// Cases are the chains to try on a queue of this direction. They come in pairs where it can be: what is just allowed,
// and what is just not.
func Cases(dir virtqueue.Direction) []Case {
	c := caseBuilder{right: uint16(0), wrong: Write}
	if dir == virtqueue.ToGuest {
		c = caseBuilder{right: Write, wrong: 0}
	}
	var all []Case
	for _, group := range [][]Case{c.links(), c.addresses(), c.lengths(), c.directions(), c.indirect(), c.nested()} {
		all = append(all, group...)
	}
	return all
}

// caseBuilder makes cases for one direction.
type caseBuilder struct{ right, wrong uint16 }

// chain places descriptors that follow each other, linked; a descriptor with Next set already stays as it is.
func chain(descs ...Desc) func(*Driver) {
	return func(d *Driver) {
		ids := d.Take(len(descs))
		for i, v := range descs {
			if i+1 < len(descs) && v.Flags&Next == 0 {
				v.Flags |= Next
				v.Next = ids[i+1]
			}
			d.RawDesc(ids[i], v)
		}
		d.AddHead(ids[0])
	}
}

// table places one descriptor that names an indirect table of descs, linked, at addr.
func table(addr guestmem.GPA, descs ...Desc) func(*Driver) {
	return func(d *Driver) {
		d.WriteTable(addr, linked(descs)...)
		chain(Desc{Addr: uint64(addr), Len: uint32(16 * len(descs)), Flags: Indirect})(d)
	}
}

func linked(descs []Desc) []Desc {
	out := append([]Desc(nil), descs...)
	for i := range out[:len(out)-1] {
		if out[i].Flags&Next == 0 {
			out[i].Flags |= Next
			out[i].Next = uint16(i + 1)
		}
	}
	return out
}

// buf is a good descriptor of n bytes.
func (c caseBuilder) buf(n uint32) Desc { return c.at(inside, n) }

func (c caseBuilder) at(addr guestmem.GPA, n uint32) Desc {
	return Desc{Addr: uint64(addr), Len: n, Flags: c.right}
}

func (c caseBuilder) bufs(count int, n uint32) (descs []Desc) {
	for range count {
		descs = append(descs, c.buf(n))
	}
	return descs
}

func (c caseBuilder) links() []Case {
	loop := func(n uint32) func(*Driver) {
		return func(d *Driver) {
			ids := d.Take(2)
			for i := range ids {
				v := c.buf(n)
				v.Flags |= Next
				v.Next = ids[1-i]
				d.RawDesc(ids[i], v)
			}
			d.AddHead(ids[0])
		}
	}
	self := func(n uint32) func(*Driver) {
		return func(d *Driver) {
			ids := d.Take(1)
			v := c.buf(n)
			v.Flags |= Next
			v.Next = ids[0]
			d.RawDesc(ids[0], v)
			d.AddHead(ids[0])
		}
	}
	next := func(i uint16) Desc { return Desc{Addr: uint64(inside), Len: 8, Flags: c.right | Next, Next: i} }
	return []Case{
		{Name: "one descriptor", Len: 100, Place: chain(c.buf(100))},
		{Name: "as many descriptors as the queue has", Len: 80, Place: chain(c.bufs(8, 10)...)},
		{Name: "descriptor that follows itself", Bad: true, Place: self(10)},
		{Name: "empty descriptor that follows itself", Bad: true, Place: self(0)},
		{Name: "loop", Bad: true, Place: loop(10)},
		{Name: "loop of empty descriptors", Bad: true, Place: loop(0)},
		{Name: "next is the queue size", Bad: true, Place: chain(next(8))},
		{Name: "next is 65535", Bad: true, Place: chain(next(65535))},
		{Name: "head is the queue size", Bad: true, Place: func(d *Driver) { d.AddHead(8) }},
		{Name: "head is 65535", Bad: true, Place: func(d *Driver) { d.AddHead(65535) }},
		{Name: "next of the last descriptor is ignored", Len: 5,
			Place: chain(Desc{Addr: uint64(inside), Len: 5, Flags: c.right, Next: 9999})},
		{Name: "unknown flags are ignored", Len: 5,
			Place: chain(Desc{Addr: uint64(inside), Len: 5, Flags: c.right | 0xfff8})},
	}
}

func (c caseBuilder) addresses() []Case {
	return []Case{
		{Name: "first byte of memory", Len: 1, Place: chain(c.at(BaseGPA, 1))},
		{Name: "before memory", Bad: true, Place: chain(c.at(BaseGPA-1, 1))},
		{Name: "from before memory into it", Bad: true, Place: chain(c.at(BaseGPA-1, 2))},
		{Name: "last byte of memory", Len: 1, Place: chain(c.at(outside-1, 1))},
		{Name: "behind memory", Bad: true, Place: chain(c.at(outside, 1))},
		{Name: "across the end of memory", Bad: true, Place: chain(c.at(outside-1, 2))},
		{Name: "address 0", Bad: true, Place: chain(c.at(0, 1))},
		{Name: "last address", Bad: true, Place: chain(c.at(math.MaxUint64, 1))},
		{Name: "wraps around", Bad: true, Place: chain(c.at(math.MaxUint64, 2))},
		{Name: "wraps around into memory", Bad: true, Place: chain(c.at(math.MaxUint64-0xf, math.MaxUint32))},
		{Name: "across adjacent regions", Len: 200, Place: chain(c.at(border-100, 200))},
		{Name: "up to the border of regions", Len: 100, Place: chain(c.at(border-100, 100))},
		{Name: "from the border of regions", Len: 100, Place: chain(c.at(border, 100))},
		{Name: "all of memory", Len: 2 * caseRegion, Place: chain(c.at(BaseGPA, 2*caseRegion))},
		{Name: "good then unmapped", Bad: true, Place: chain(c.buf(10), c.at(outside, 10))},
	}
}

func (c caseBuilder) lengths() []Case {
	zero := c.at(0, 0) // address 0 with length 0 is nothing
	whole := c.at(BaseGPA, 2*caseRegion)
	return []Case{
		{Name: "empty first", Len: 10, Place: chain(zero, c.buf(10))},
		{Name: "empty in the middle", Len: 20, Place: chain(c.buf(10), zero, c.buf(10))},
		{Name: "empty last", Len: 10, Place: chain(c.buf(10), zero)},
		{Name: "nothing but empty", Bad: true, Place: chain(zero, zero)},
		{Name: "one empty", Bad: true, Place: chain(c.buf(0))},
		{Name: "length 2^32-1", Bad: true, Place: chain(c.buf(math.MaxUint32))},
		{Name: "more than 64 KiB", Len: 8 * 2 * caseRegion,
			Place: chain(whole, whole, whole, whole, whole, whole, whole, whole)},
	}
}

func (c caseBuilder) directions() []Case {
	bad := Desc{Addr: uint64(inside), Len: 10, Flags: c.wrong}
	empty := Desc{Flags: c.wrong}
	return []Case{
		{Name: "wrong direction", Bad: true, Place: chain(bad)},
		{Name: "wrong direction first", Bad: true, Place: chain(bad, c.buf(10))},
		{Name: "wrong direction last", Bad: true, Place: chain(c.buf(10), bad)},
		{Name: "empty in the wrong direction", Bad: true, Place: chain(c.buf(10), empty)},
	}
}

// indirect is about the descriptor that names a table, and where the table is.
func (c caseBuilder) indirect() []Case {
	entry := func(addr guestmem.GPA, n uint32, flags uint16) func(*Driver) {
		return func(d *Driver) {
			d.WriteTable(inside, c.at(BaseGPA, 7), c.at(BaseGPA, 7))
			chain(Desc{Addr: uint64(addr), Len: n, Flags: Indirect | flags})(d)
		}
	}
	return []Case{
		{Name: "indirect", Len: 20, Place: table(inside, c.buf(10), c.buf(10))},
		{Name: "indirect with the write flag", Len: 7, Place: entry(inside, 16, Write)},
		{Name: "indirect with the next flag", Bad: true, Place: entry(inside, 16, Next)},
		{Name: "indirect table of no bytes", Bad: true, Place: entry(inside, 0, 0)},
		{Name: "indirect table of 15 bytes", Bad: true, Place: entry(inside, 15, 0)},
		{Name: "indirect table of 17 bytes", Bad: true, Place: entry(inside, 17, 0)},
		{Name: "indirect table longer than its chain", Len: 7, Place: entry(inside, 32, 0)},
		{Name: "indirect table longer than memory", Len: 7, Place: entry(inside, math.MaxUint32&^15, 0)},
		{Name: "indirect table at an odd address", Len: 10, Place: table(inside+3, c.at(BaseGPA, 10))},
		{Name: "indirect table behind memory", Bad: true, Place: entry(outside, 16, 0)},
		{Name: "indirect table across the end of memory", Bad: true, Place: entry(outside-8, 16, 0)},
		{Name: "indirect table that wraps around", Bad: true, Place: entry(math.MaxUint64-15, 32, 0)},
		{Name: "indirect table across regions", Len: 30, Place: table(border-16, c.bufs(3, 10)...)},
		{Name: "indirect descriptor across regions", Len: 20, Place: table(border-8, c.bufs(2, 10)...)},
		{Name: "indirect table that ends behind memory", Bad: true, Place: func(d *Driver) {
			v := c.at(BaseGPA, 7)
			v.Flags |= Next
			v.Next = 1
			d.WriteTable(outside-16, v)
			chain(Desc{Addr: uint64(outside - 16), Len: 32, Flags: Indirect})(d)
		}},
	}
}

// nested is about what is in a table.
func (c caseBuilder) nested() []Case {
	inner := Desc{Addr: uint64(inside), Len: 16, Flags: Indirect}
	after := func(descs ...Desc) func(*Driver) {
		return func(d *Driver) {
			d.WriteTable(inside, c.at(BaseGPA, 7))
			chain(descs...)(d)
		}
	}
	twice := func(descs ...Desc) func(*Driver) { // a table that names another good one
		return func(d *Driver) {
			d.WriteTable(inside, c.at(BaseGPA, 7))
			table(inside+1024, descs...)(d)
		}
	}
	next := func(i uint16) Desc { return Desc{Addr: uint64(inside), Len: 8, Flags: c.right | Next, Next: i} }
	return []Case{
		{Name: "indirect in indirect first", Bad: true, Place: twice(inner)},
		{Name: "indirect in indirect last", Bad: true, Place: twice(c.buf(10), inner)},
		{Name: "indirect after a buffer", Len: 17, Place: after(c.buf(10), inner)},
		{Name: "indirect after buffers up to the size", Len: 77, Place: after(append(c.bufs(7, 10), inner)...)},
		{Name: "as many indirect descriptors as the queue has", Len: 80, Place: table(inside, c.bufs(8, 10)...)},
		{Name: "more indirect descriptors than the queue has", Bad: true, Place: table(inside, c.bufs(9, 10)...)},
		{Name: "more descriptors than the queue has, indirect ones included", Bad: true, Place: func(d *Driver) {
			d.WriteTable(inside, linked(c.bufs(8, 7))...)
			chain(c.buf(10), Desc{Addr: uint64(inside), Len: 8 * 16, Flags: Indirect})(d)
		}},
		{Name: "next beyond the indirect table", Bad: true, Place: table(inside, c.buf(10), next(2))},
		{Name: "next in the indirect table is the queue's", Bad: true, Place: table(inside, next(1))},
		{Name: "loop in the indirect table", Bad: true, Place: table(inside, next(1), next(0))},
		{Name: "wrong direction in the indirect table", Bad: true,
			Place: table(inside, c.buf(10), Desc{Addr: uint64(inside), Len: 10, Flags: c.wrong})},
		{Name: "unmapped buffer in the indirect table", Bad: true, Place: table(inside, c.buf(10), c.at(outside, 1))},
		{Name: "empty buffer in the indirect table", Len: 10, Place: table(inside, c.at(0, 0), c.buf(10))},
	}
}
