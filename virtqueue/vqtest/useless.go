package vqtest

import "github.com/vringnet/vring/virtqueue/guestmem"

// Fill is a way to fill a receive ring of 256 entries that has room for 40 frames of 1400 bytes at most. Post adds the
// entries and publishes them.
type Fill struct {
	Name string
	Post func(d *Driver) (kick bool)
}

// crumbs is how many buffers of one byte a chain of them has. They lie apart, so that each is a piece of its own.
const crumbs = 256

// UselessFills are fills whose buffers can hold no frame, alone and behind others that can. The driver must have indirect
// descriptors and some 256 KiB of memory.
func UselessFills() []Fill {
	fill := func(name string, add func(d *Driver)) Fill {
		return Fill{name, func(d *Driver) bool { add(d); return d.Publish() }}
	}
	return []Fill{
		fill("crumbs", func(d *Driver) { d.addCrumbs(256) }),
		fill("few crumbs", func(d *Driver) { d.addCrumbs(12) }),
		fill("one byte each", func(d *Driver) { d.addBuffers(256, 1) }),
		fill("shorter than a header", func(d *Driver) { d.addBuffers(256, 4) }),
		fill("a header long", func(d *Driver) { d.addBuffers(256, 12) }),
		fill("outside of memory", func(d *Driver) { d.addLike(256, Desc{Addr: 1 << 60, Len: 2048, Flags: Write}) }),
		fill("to be read", func(d *Driver) { d.addLike(256, Desc{Addr: uint64(BaseGPA), Len: 2048}) }),
		fill("empty", func(d *Driver) { d.addLike(256, Desc{Addr: uint64(BaseGPA), Flags: Write}) }),
		fill("too few", func(d *Driver) { d.addBuffers(5, 100) }),
		fill("a mixture", func(d *Driver) { d.addBuffers(2, 100); d.addCrumbs(250); d.addBuffers(4, 4) }),
		fill("good ones before crumbs", func(d *Driver) { d.addBuffers(3, 2048); d.addCrumbs(253) }),
		fill("many good ones before one of crumbs", func(d *Driver) { d.addBuffers(40, 2048); d.addCrumbs(1) }),
		fill("good ones among bad ones", func(d *Driver) {
			for range 20 {
				d.addBuffers(1, 2048)
				d.addCrumbs(5)
				d.addBuffers(1, 4)
			}
		}),
	}
}

// addLike adds n entries of a chain of one descriptor.
func (d *Driver) addLike(n int, v Desc) {
	for range n {
		ids := d.Take(1)
		d.RawDesc(ids[0], v)
		d.AddHead(ids[0])
	}
}

// addBuffers adds n entries of a buffer of so many bytes, all of them the same one.
func (d *Driver) addBuffers(n, bytes int) {
	d.addLike(n, Desc{Addr: uint64(d.mem.Alloc(bytes, 16)), Len: uint32(bytes), Flags: Write})
}

// addCrumbs adds n entries with chains of buffers of one byte, which share an indirect table.
func (d *Driver) addCrumbs(n int) {
	table, buffers := d.mem.Alloc(16*crumbs, 16), d.mem.Alloc(2*crumbs, 16)
	descs := make([]Desc, crumbs)
	for i := range descs {
		descs[i] = Desc{Addr: uint64(buffers + guestmem.GPA(2*i)), Len: 1, Flags: Write | Next, Next: uint16(i + 1)}
	}
	descs[crumbs-1].Flags = Write
	d.WriteTable(table, descs...)
	d.addLike(n, Desc{Addr: uint64(table), Len: 16 * crumbs, Flags: Indirect})
}

// AddGood adds and publishes n entries of a buffer of 2048 bytes.
func (d *Driver) AddGood(n int) (kick bool) {
	d.addBuffers(n, 2048)
	return d.Publish()
}
