package vqtest

import (
	"math"

	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// Walk decodes the chain that begins at head as the specification has it (virtio 1.2 section 2.7.5), the slow way: it is
// what package virtqueue is compared with. It returns the buffers with their empty ones left out, or false for a chain
// that a device must not use.
func (d *Driver) Walk(dir virtqueue.Direction, head uint16) (bufs []Buf, ok bool) {
	descs, ok := d.flatten(head)
	if !ok || len(descs) > min(int(d.opt.Size), virtqueue.MaxIovecs) {
		return nil, false
	}
	var total uint64
	for _, v := range descs {
		write := v.Flags&Write != 0
		if write != (dir == virtqueue.ToGuest) {
			return nil, false
		}
		if v.Len == 0 {
			continue
		}
		if !d.mem.Holds(guestmem.GPA(v.Addr), uint64(v.Len)) {
			return nil, false
		}
		bufs = append(bufs, Buf{GPA: guestmem.GPA(v.Addr), Len: v.Len, Write: write})
		total += uint64(v.Len)
	}
	return bufs, total > 0 && total <= math.MaxUint32 && d.pieces(bufs) <= virtqueue.MaxIovecs
}

// flatten lists the descriptors of buffers of a chain: first those of the queue's table, then those of the indirect
// table that the last one of them may name.
func (d *Driver) flatten(head uint16) ([]Desc, bool) {
	descs, ok := follow(uint32(d.opt.Size), head, func(i uint16) (Desc, bool) { return d.ring.Desc(i), true })
	if !ok {
		return nil, false
	}
	last := descs[len(descs)-1]
	for _, v := range descs[:len(descs)-1] {
		if v.Flags&Indirect != 0 {
			return nil, false // with Next
		}
	}
	if last.Flags&Indirect == 0 {
		return descs, true
	}
	inner, ok := d.indirect(last)
	return append(descs[:len(descs)-1], inner...), ok
}

// indirect lists the descriptors in the indirect table that v names.
func (d *Driver) indirect(v Desc) ([]Desc, bool) {
	switch {
	case !d.opt.Indirect, v.Len == 0, v.Len%16 != 0, v.Addr+uint64(v.Len) < v.Addr:
		return nil, false
	}
	descs, ok := follow(v.Len/16, 0, func(i uint16) (Desc, bool) {
		return d.mem.desc(guestmem.GPA(v.Addr) + guestmem.GPA(i)*16)
	})
	for _, v := range descs {
		ok = ok && v.Flags&Indirect == 0
	}
	return descs, ok
}

// follow lists the chain that begins at i in a table of n descriptors. A chain visits no descriptor twice.
func follow(n uint32, i uint16, load func(uint16) (Desc, bool)) (descs []Desc, ok bool) {
	seen := map[uint16]bool{}
	for {
		if uint32(i) >= n || seen[i] {
			return nil, false
		}
		seen[i] = true
		v, ok := load(i)
		if !ok {
			return nil, false
		}
		descs = append(descs, v)
		if v.Flags&Next == 0 {
			return descs, true
		}
		i = v.Next
	}
}

// desc reads a descriptor byte by byte.
func (m *Memory) desc(addr guestmem.GPA) (Desc, bool) {
	if !m.Holds(addr, 16) {
		return Desc{}, false
	}
	var b [16]uint64
	for i := range b {
		b[i] = uint64(m.Bytes(addr+guestmem.GPA(i), 1)[0])
	}
	return Desc{
		Addr:  b[0] | b[1]<<8 | b[2]<<16 | b[3]<<24 | b[4]<<32 | b[5]<<40 | b[6]<<48 | b[7]<<56,
		Len:   uint32(b[8] | b[9]<<8 | b[10]<<16 | b[11]<<24),
		Flags: uint16(b[12] | b[13]<<8),
		Next:  uint16(b[14] | b[15]<<8),
	}, true
}

// pieces counts the pieces of host memory of bufs: one a region that a buffer touches.
func (d *Driver) pieces(bufs []Buf) int {
	n := 0
	for _, b := range bufs {
		first, last := b.GPA, b.GPA+guestmem.GPA(b.Len)-1
		for _, r := range d.mem.regions {
			if first < r.GPA+guestmem.GPA(r.Size) && last >= r.GPA {
				n++
			}
		}
	}
	return n
}

// Resolve translates pieces of host memory of the device's table back to guest-physical ones, adjacent pieces joined.
// It reports false if one of them is not of this guest's memory.
func (m *Memory) Resolve(t *guestmem.Table, iov []guestmem.Iovec) (bufs []Buf, ok bool) {
	for _, v := range iov {
		gpa, ok := m.resolve(t, v)
		if !ok {
			return nil, false
		}
		bufs = append(bufs, Buf{GPA: gpa, Len: uint32(v.Len)})
	}
	return Join(bufs), true
}

func (m *Memory) resolve(t *guestmem.Table, v guestmem.Iovec) (guestmem.GPA, bool) {
	for _, r := range m.regions {
		host, ok := t.AppendGPA(make([]guestmem.Iovec, 0, 1), r.GPA, r.Size)
		if !ok {
			return 0, false
		}
		if off := uint64(v.Base - host[0].Base); off < r.Size {
			// Beyond the region the memory is checked by the address: mappings may happen to be adjacent.
			return r.GPA + guestmem.GPA(off), m.Holds(r.GPA+guestmem.GPA(off), v.Len)
		}
	}
	return 0, false
}

// Join joins adjacent buffers, and forgets their direction: two lists of buffers that join to the same are the same
// bytes in the same order.
func Join(bufs []Buf) []Buf {
	var out []Buf
	for _, b := range bufs {
		b.Write = false
		if n := len(out); n > 0 && out[n-1].GPA+guestmem.GPA(out[n-1].Len) == b.GPA {
			out[n-1].Len += b.Len
			continue
		}
		out = append(out, b)
	}
	return out
}
