package vqtest

import (
	"encoding/binary"

	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/internal/ring"
)

// Desc is a descriptor as the driver writes it.
type Desc = ring.Desc

// Descriptor flags.
const (
	Next     = ring.FlagNext
	Write    = ring.FlagWrite
	Indirect = ring.FlagIndirect
)

// Buf is a buffer of a chain.
type Buf struct {
	GPA   guestmem.GPA
	Len   uint32
	Write bool // the device writes it
}

func (b Buf) flags() uint16 {
	if b.Write {
		return Write
	}
	return 0
}

// Options describe a ring to make.
type Options struct {
	Size     uint16
	EventIdx bool
	Indirect bool
	Base     uint16 // what the indexes of both rings begin with
	// OddAvail puts the available ring at an odd multiple of 2, as the specification allows.
	OddAvail bool
}

// Driver is the guest's side of a ring.
type Driver struct {
	mem  *Memory
	opt  Options
	cfg  virtqueue.Config
	ring ring.Driver

	free      []uint16        // descriptors that are not in use
	held      [][]uint16      // by head: the descriptors of the chain
	tables    []indirectTable // by head: memory for an indirect table
	scratch   []Desc
	flags     uint16 // of the available ring
	avail     uint16 // index behind the last entry added
	published uint16
	used      uint16 // index of the used element to look at next
}

type indirectTable struct {
	gpa guestmem.GPA
	len int // descriptors
}

// NewDriver allocates a ring in m, with all descriptors free and nothing available.
func NewDriver(m *Memory, opt Options) *Driver {
	desc := m.Alloc(int(ring.DescLen(opt.Size)), ring.DescAlign)
	avail := m.Alloc(int(ring.AvailLen(opt.Size, true))+2, 4)
	if opt.OddAvail {
		avail += 2
	}
	used := m.Alloc(int(ring.UsedLen(opt.Size, true)), ring.UsedAlign)
	d := &Driver{
		mem: m,
		opt: opt,
		cfg: virtqueue.Config{
			Size: opt.Size, Desc: m.UVA(desc), Avail: m.UVA(avail), Used: m.UVA(used),
			State: virtqueue.SplitState(opt.Base), Indirect: opt.Indirect, EventIdx: opt.EventIdx,
		},
		ring:   m.ringAt(opt.Size, true, desc, avail, used),
		held:   make([][]uint16, opt.Size),
		tables: make([]indirectTable, opt.Size),
		avail:  opt.Base, published: opt.Base, used: opt.Base,
	}
	for i := opt.Size; i > 0; i-- {
		d.free = append(d.free, i-1)
	}
	d.ring.PublishAvail(0, opt.Base)
	d.ring.PublishUsed(0, opt.Base)
	if opt.EventIdx {
		d.ring.SetUsedEvent(opt.Base)
		d.ring.SetAvailEvent(opt.Base)
	}
	return d
}

// Memory is where the ring lies.
func (d *Driver) Memory() *Memory { return d.mem }

// Layout describes the ring to a device. The caller sets Dir.
func (d *Driver) Layout() virtqueue.Config { return d.cfg }

// Free is the number of free descriptors.
func (d *Driver) Free() int { return len(d.free) }

// Outstanding is the number of entries added whose used element Used did not return yet.
func (d *Driver) Outstanding() int { return int(d.avail - d.used) }

// Add makes a chain of bufs, one descriptor each. The device sees it after Publish. It reports false if there are not
// enough free descriptors.
func (d *Driver) Add(bufs ...Buf) (head uint16, ok bool) {
	if len(bufs) == 0 || len(bufs) > len(d.free) {
		return 0, false
	}
	head, ids := d.take(len(bufs))
	for i, b := range bufs {
		v := Desc{Addr: uint64(b.GPA), Len: b.Len, Flags: b.flags()}
		if i+1 < len(bufs) {
			v.Flags |= Next
			v.Next = ids[i+1]
		}
		d.ring.SetDesc(ids[i], v)
	}
	d.AddHead(head)
	return head, true
}

// AddIndirect makes a chain of one descriptor that names an indirect table of bufs.
func (d *Driver) AddIndirect(bufs ...Buf) (head uint16, ok bool) {
	if len(bufs) == 0 || len(d.free) == 0 {
		return 0, false
	}
	head, _ = d.take(1)
	table := d.table(head, len(bufs))
	d.scratch = d.scratch[:0]
	for i, b := range bufs {
		v := Desc{Addr: uint64(b.GPA), Len: b.Len, Flags: b.flags()}
		if i+1 < len(bufs) {
			v.Flags |= Next
			v.Next = uint16(i + 1)
		}
		d.scratch = append(d.scratch, v)
	}
	d.WriteTable(table, d.scratch...)
	d.ring.SetDesc(head, Desc{Addr: uint64(table), Len: uint32(len(bufs)) * ring.DescSize, Flags: Indirect})
	d.AddHead(head)
	return head, true
}

// Take takes n free descriptors for a chain that the caller writes with RawDesc and adds with AddHead. They become free
// when the first of them comes back as used.
func (d *Driver) Take(n int) []uint16 {
	if n > len(d.free) {
		panic("vqtest: not enough free descriptors")
	}
	_, ids := d.take(n)
	return ids
}

func (d *Driver) take(n int) (head uint16, ids []uint16) {
	head = d.free[len(d.free)-1]
	ids = d.held[head][:0]
	for range n {
		ids = append(ids, d.free[len(d.free)-1])
		d.free = d.free[:len(d.free)-1]
	}
	d.held[head] = ids
	return head, ids
}

// table returns memory for an indirect table of n descriptors.
func (d *Driver) table(head uint16, n int) guestmem.GPA {
	t := &d.tables[head]
	if t.len < n {
		*t = indirectTable{gpa: d.mem.Alloc(n*ring.DescSize, ring.DescSize), len: n}
	}
	return t.gpa
}

// WriteTable writes an indirect table at addr, which may lie across regions.
func (d *Driver) WriteTable(addr guestmem.GPA, descs ...Desc) {
	var b [ring.DescSize]byte
	for i, v := range descs {
		binary.LittleEndian.PutUint64(b[0:], v.Addr)
		binary.LittleEndian.PutUint32(b[8:], v.Len)
		binary.LittleEndian.PutUint16(b[12:], v.Flags)
		binary.LittleEndian.PutUint16(b[14:], v.Next)
		d.mem.Write(addr+guestmem.GPA(i*ring.DescSize), b[:])
	}
}

// AddHead adds an entry to the available ring, whatever head is.
func (d *Driver) AddHead(head uint16) {
	d.ring.SetAvail(d.avail, head)
	d.avail++
}

// Publish shows the device what was added, and reports whether it wants a kick for it.
func (d *Driver) Publish() (kick bool) {
	before := d.published
	d.published = d.avail
	d.ring.PublishAvail(d.flags, d.avail)
	if before == d.avail {
		return false
	}
	if d.opt.EventIdx {
		return ring.NeedEvent(d.ring.AvailEvent(), d.avail, before)
	}
	return d.ring.UsedFlags()&ring.UsedNoNotify == 0
}

// TakeBack lowers the index of the available ring by n entries, all of which were published, as Linux does with the buffers
// of a driver that is unloaded. Their descriptors are free again.
func (d *Driver) TakeBack(n int) {
	for range n {
		d.avail--
		head := d.ring.Entry(d.avail)
		if int(head) < len(d.held) {
			d.free = append(d.free, d.held[head]...)
			d.held[head] = d.held[head][:0]
		}
	}
	d.published = d.avail
	d.ring.PublishAvail(d.flags, d.avail)
}

// Used takes the next used element and frees the chain's descriptors. It reports false if there is none.
func (d *Driver) Used() (head uint16, written uint32, ok bool) {
	if d.ring.UsedIdx() == d.used {
		return 0, 0, false
	}
	id, written := d.ring.Used(d.used)
	d.used++
	head = uint16(id)
	if int(head) < len(d.held) {
		d.free = append(d.free, d.held[head]...)
		d.held[head] = d.held[head][:0]
	}
	return head, written, true
}

// DisableInterrupts tells the device that no interrupts are needed. Some may still come.
func (d *Driver) DisableInterrupts() {
	if !d.opt.EventIdx {
		d.setFlags(ring.AvailNoInterrupt)
	}
}

// EnableInterrupts asks the device for an interrupt with the next used element, and reports whether there are used
// elements already, for which none may come.
func (d *Driver) EnableInterrupts() (more bool) {
	if d.opt.EventIdx {
		d.ring.SetUsedEvent(d.used)
	} else {
		d.setFlags(0)
	}
	return d.ring.UsedIdx() != d.used
}

func (d *Driver) setFlags(flags uint16) {
	d.flags = flags
	d.ring.PublishAvail(flags, d.published)
}

// RawDesc writes descriptor i of the queue's table.
func (d *Driver) RawDesc(i uint16, v Desc) { d.ring.SetDesc(i, v) }

// Desc reads descriptor i of the queue's table.
func (d *Driver) Desc(i uint16) Desc { return d.ring.Desc(i) }

// RawAvailIdx stores flags and index of the available ring, and nothing else: Publish does not know.
func (d *Driver) RawAvailIdx(flags, idx uint16) { d.ring.PublishAvail(flags, idx) }

// RawUsedIdx stores flags and index of the used ring, as an earlier back end would have left them.
func (d *Driver) RawUsedIdx(flags, idx uint16) { d.ring.PublishUsed(flags, idx) }

// RawUsedEvent stores the index at which the driver wants an interrupt.
func (d *Driver) RawUsedEvent(idx uint16) { d.ring.SetUsedEvent(idx) }

// RawAvailEvent stores the index at which the device wants a kick, as an earlier back end would have left it.
func (d *Driver) RawAvailEvent(idx uint16) { d.ring.SetAvailEvent(idx) }

// AvailIdx is the index of the available ring.
func (d *Driver) AvailIdx() uint16 { return d.ring.AvailIdx() }

// UsedIdx is the index of the used ring.
func (d *Driver) UsedIdx() uint16 { return d.ring.UsedIdx() }

// UsedFlags are the flags of the used ring.
func (d *Driver) UsedFlags() uint16 { return d.ring.UsedFlags() }

// AvailEvent is the index at which the device wants a kick.
func (d *Driver) AvailEvent() uint16 { return d.ring.AvailEvent() }

// Entry is the head in the entry of the available ring for index i.
func (d *Driver) Entry(i uint16) uint16 { return d.ring.Entry(i) }
