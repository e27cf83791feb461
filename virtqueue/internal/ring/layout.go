package ring

import "encoding/binary"

// Descriptor flags (virtio 1.2 section 2.7.5).
const (
	FlagNext     = 1 << 0 // the chain goes on at Desc.Next
	FlagWrite    = 1 << 1 // the device writes this buffer; without it, the device reads it
	FlagIndirect = 1 << 2 // the buffer is a table of descriptors
)

const (
	// AvailNoInterrupt in the flags of the available ring: the driver wants no interrupts. Meaningless with EVENT_IDX.
	AvailNoInterrupt = 1
	// UsedNoNotify in the flags of the used ring: the device wants no kicks. Meaningless with EVENT_IDX.
	UsedNoNotify = 1
)

// MaxSize is the largest number of descriptors of a split queue (virtio 1.2 section 2.7).
const MaxSize = 32768

// Alignments of the three parts (virtio 1.2 section 2.7), in bytes.
const (
	DescAlign  = 16
	AvailAlign = 2
	UsedAlign  = 4
)

// DescSize is the size of a descriptor in bytes.
const DescSize = 16

// DescLen returns the size of the descriptor table of a queue, in bytes.
func DescLen(size uint16) uint64 { return DescSize * uint64(size) }

// AvailLen returns the size of the available ring in bytes. used_event counts only with EVENT_IDX.
func AvailLen(size uint16, eventIdx bool) uint64 { return 4 + 2*uint64(size) + eventLen(eventIdx) }

// UsedLen returns the size of the used ring in bytes. avail_event counts only with EVENT_IDX.
func UsedLen(size uint16, eventIdx bool) uint64 { return 4 + 8*uint64(size) + eventLen(eventIdx) }

func eventLen(eventIdx bool) uint64 {
	if eventIdx {
		return 2
	}
	return 0
}

// Desc is a copy of a descriptor (virtio 1.2 section 2.7.5).
type Desc struct {
	Addr  uint64 // guest-physical
	Len   uint32 // bytes
	Flags uint16
	Next  uint16 // index of the next descriptor, with FlagNext
}

// Words is a descriptor as it lies in memory: the address, and length, flags and next from the lowest bit on.
type Words struct{ Addr, Rest uint64 }

// Len is the length of the buffer in bytes.
func (w Words) Len() uint32 { return uint32(w.Rest) }

// Flags are those of the descriptor.
func (w Words) Flags() uint16 { return uint16(w.Rest >> 32) }

// NeedEvent tells whether the other side, which asked for an event when the index passes event, is to be notified of a
// move of the index from before to after (virtio 1.2 sections 2.7.7.2 and 2.7.10). All three wrap around.
func NeedEvent(event, after, before uint16) bool {
	return after-event-1 < after-before
}

// DecodeDesc decodes a copy of a descriptor that was taken otherwise than by Table.Load.
func DecodeDesc(b *[DescSize]byte) Desc {
	return Desc{
		Addr:  binary.LittleEndian.Uint64(b[0:]),
		Len:   binary.LittleEndian.Uint32(b[8:]),
		Flags: binary.LittleEndian.Uint16(b[12:]),
		Next:  binary.LittleEndian.Uint16(b[14:]),
	}
}
