package netem

import (
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// store keeps frames in a ring of bytes, and tells which is due first. A frame is one piece, with room for a virtio-net header of zeros in
// front. Bytes become free in the order in which they were taken; so a frame that is late keeps those behind it. It is the thread's own.
type store struct {
	memory []byte
	base   guestmem.Iovec // of memory
	frames []kept
	unused int32 // frames that were never used begin here
	free   int32 // the first of a list of frames that are free, none if there is no one
	oldest int32 // in the order of memory
	newest int32
	end    int // where in memory the next frame goes
	heap   []int32
	serial uint64
	held   int // frames, those that were taken out of the heap among them
}

// none is no frame.
const none = int32(-1)

// kept is a frame.
type kept struct {
	at     int64  // when it is due, in nanoseconds
	serial uint64 // of two that are due at once, which was first
	offset int32  // in memory, where its header is
	length int32  // bytes behind the header
	next   int32  // the next one in the order of memory, or of those that are free
	freed  bool
	damage bool // it is corrupt in a way that its checksums show
}

// headerRoom is the room for a header. The frame behind it begins at an even address.
const headerRoom = 16

// bytesOfFrame is how many bytes of memory there are for a frame, at least: what the shortest takes.
const bytesOfFrame = headerRoom + 64

// newStore makes a store for frames of so many bytes together, headers not counted.
func newStore(bytes int) *store {
	const base = 1 << 20
	size := bytes + bytes/2 + 4*longest // headers of short frames, and what is left at the end of memory
	s := &store{memory: make([]byte, size), free: none, oldest: none, newest: none}
	table := guestmem.NewHeap(guestmem.HeapRegion{GPA: base, UVA: base, Mem: s.memory})
	pieces, _ := table.AppendGPA(make([]guestmem.Iovec, 0, 1), base, uint64(size))
	s.base = pieces[0]
	s.frames = make([]kept, size/bytesOfFrame)
	s.heap = make([]int32, 0, len(s.frames))
	return s
}

// longest is the longest frame in bytes: an IP packet of 64 KiB behind an Ethernet header with two VLAN tags.
const longest = 65535 + vnet.EthernetHeaderLen + 2*4

// take takes room for a frame of n bytes that is due at a time, none if there is no more. It is not in the heap yet.
func (s *store) take(n int) int32 {
	need := (headerRoom + n + 7) &^ 7
	offset, ok := s.place(need)
	if !ok {
		return none
	}
	i := s.free
	switch {
	case i != none:
		s.free = s.frames[i].next
	case int(s.unused) < len(s.frames):
		i = s.unused
		s.unused++
	default:
		return none
	}
	s.frames[i] = kept{offset: int32(offset), length: int32(n), next: none}
	if s.newest != none {
		s.frames[s.newest].next = i
	} else {
		s.oldest = i
	}
	s.newest = i
	s.end = offset + need
	s.held++
	return i
}

// place returns where so many bytes are free.
func (s *store) place(need int) (offset int, ok bool) {
	if s.oldest == none {
		return 0, need <= len(s.memory)
	}
	begin := int(s.frames[s.oldest].offset)
	switch {
	case s.end > begin && len(s.memory)-s.end >= need:
		return s.end, true
	case s.end > begin:
		return 0, need < begin
	}
	return s.end, begin-s.end > need
}

// bytes are those of a frame, without its header.
func (s *store) bytes(i int32) []byte {
	f := &s.frames[i]
	at := int(f.offset) + headerRoom
	return s.memory[at : at+int(f.length)]
}

// piece is a frame with a header of so many bytes in front.
func (s *store) piece(i int32, headerLen int) guestmem.Iovec {
	f := &s.frames[i]
	at := int(f.offset) + headerRoom - headerLen
	clear(s.memory[at : at+headerLen])
	return guestmem.Iovec{Base: s.base.Base + uintptr(at), Len: uint64(headerLen) + uint64(f.length)}
}

// add makes a frame one that is due at a time.
func (s *store) add(i int32, at int64) {
	f := &s.frames[i]
	f.at, f.serial = at, s.serial
	s.serial++
	s.heap = append(s.heap, i)
	s.up(len(s.heap) - 1)
}

// due returns when the next frame is due, 0 if there is none.
func (s *store) due() int64 {
	if len(s.heap) == 0 {
		return 0
	}
	return s.frames[s.heap[0]].at
}

// first is the frame that is due first, which there must be.
func (s *store) first() int32 { return s.heap[0] }

// pop takes the frame that is due first out of the heap. Its bytes stay.
func (s *store) pop() int32 {
	i, last := s.heap[0], len(s.heap)-1
	s.heap[0] = s.heap[last]
	s.heap = s.heap[:last]
	s.down(0)
	return i
}

// release gives the bytes of a frame back.
func (s *store) release(i int32) {
	s.frames[i].freed = true
	s.held--
	for s.oldest != none && s.frames[s.oldest].freed {
		gone := s.oldest
		if s.oldest = s.frames[gone].next; s.oldest == none {
			s.newest, s.end = none, 0
		}
		s.frames[gone].next = s.free
		s.free = gone
	}
}

// before reports whether heap element a is due before b.
func (s *store) before(a, b int) bool {
	f, g := &s.frames[s.heap[a]], &s.frames[s.heap[b]]
	return f.at < g.at || f.at == g.at && f.serial < g.serial
}

func (s *store) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !s.before(i, parent) {
			return
		}
		s.heap[i], s.heap[parent] = s.heap[parent], s.heap[i]
		i = parent
	}
}

func (s *store) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(s.heap) {
			return
		}
		if child+1 < len(s.heap) && s.before(child+1, child) {
			child++
		}
		if !s.before(child, i) {
			return
		}
		s.heap[i], s.heap[child] = s.heap[child], s.heap[i]
		i = child
	}
}

// moveTo copies what is due later to a larger store. Frames that were popped must have been released.
func (s *store) moveTo(to *store) {
	for len(s.heap) > 0 {
		at, damage := s.due(), s.frames[s.first()].damage
		from := s.pop()
		i := to.take(int(s.frames[from].length))
		copy(to.bytes(i), s.bytes(from))
		to.frames[i].damage = damage
		to.add(i, at)
		s.release(from)
	}
}

// room is how many bytes are free in one piece, at least.
func (s *store) room() int {
	const header = headerRoom + 8
	if s.oldest == none {
		return len(s.memory) - header
	}
	begin := int(s.frames[s.oldest].offset)
	if s.end > begin {
		return max(0, max(len(s.memory)-s.end, begin-1)-header)
	}
	return max(0, begin-s.end-1-header)
}
