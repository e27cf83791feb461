package capture

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"sync/atomic"

	"github.com/vringnet/vring/netbackend/capture/filter"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	// MinMemory is the least memory of a Tap, in bytes: some frames of any length fit.
	MinMemory = 256 << 10
	// MaxSnapLen is the most that is copied of a frame, in bytes: all of it, with two VLAN tags.
	MaxSnapLen = 65535 + vnet.EthernetHeaderLen + 2*4
	// MinSnapLen is the least: the Ethernet header.
	MinSnapLen = vnet.EthernetHeaderLen
)

// Options say what a Tap takes.
type Options struct {
	Filter  filter.Program // selects frames; its zero value selects all
	SnapLen int            // how many bytes of a frame are copied at most, from MinSnapLen to MaxSnapLen
	Memory  int            // of the ring in bytes; a power of two, and at least MinMemory
}

// Check returns what is wrong with o.
func (o *Options) Check() error {
	switch {
	case o.SnapLen < MinSnapLen || o.SnapLen > MaxSnapLen:
		return fmt.Errorf("snaplen %d: want %d to %d bytes", o.SnapLen, MinSnapLen, MaxSnapLen)
	case o.Memory < MinMemory || bits.OnesCount(uint(o.Memory)) != 1:
		return fmt.Errorf("%d bytes of memory: want a power of two from %d on", o.Memory, MinMemory)
	}
	return nil
}

// recordLen is what a record has before its bytes: time, length of the record and of the frame, how much of it was copied,
// direction, and the words of the virtio-net header. Records begin at multiples of 8 bytes.
const (
	recordLen = 40
	timeAt    = 0
	sizeAt    = 8
	lengthAt  = 12
	copiedAt  = 16
	toGuestAt = 20
	firstAt   = 24
	restAt    = 32
)

// skipped, as the length of a frame, marks a record that fills up the rest of the ring.
const skipped = ^uint32(0)

// cacheLine keeps apart what two threads write.
type cacheLine [64]byte

// Tap hands frames from the thread of a queue pair, the writer, to a reader.
type Tap struct {
	filter  filter.Program
	snapLen int
	ring    []byte
	head    []byte // of a frame, for the filter

	// The writer's own.
	_       cacheLine
	written uint64 // bytes put into the ring since the beginning
	freed   uint64 // read, as it was when the turn began
	taken   uint64 // frames put into the ring
	lost    uint64 // frames that found no room, or were too many
	pace    pace

	// What the writer tells.
	_         cacheLine
	published atomic.Uint64 // written
	captured  atomic.Uint64 // taken
	missed    atomic.Uint64 // lost

	_    cacheLine
	read atomic.Uint64 // bytes that the reader is done with
}

// NewTap returns a Tap without frames.
func NewTap(o Options) (*Tap, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	return &Tap{
		filter: o.Filter, snapLen: o.SnapLen, pace: newPace(), ring: make([]byte, o.Memory), head: make([]byte, o.Filter.Reach()),
	}, nil
}

// put offers a frame of length bytes, which begins skip bytes into chains. It is for the writer.
func (t *Tap) put(now int64, toGuest bool, h *vnet.Header, chains []virtqueue.Chain, skip, length int) {
	head := t.head[:min(len(t.head), length)]
	copyFrom(head, chains, skip)
	if !t.filter.Match(head, length) {
		return
	}
	n := min(length, t.snapLen)
	t.pace.offer(1, n)
	if t.pace.isOver() {
		t.lost++
		return
	}
	record := t.place(recordLen + n)
	if record == nil {
		t.lost++
		return
	}
	size := len(record)
	binary.LittleEndian.PutUint64(record[timeAt:], uint64(now))
	binary.LittleEndian.PutUint32(record[sizeAt:], uint32(size))
	binary.LittleEndian.PutUint32(record[lengthAt:], uint32(length))
	binary.LittleEndian.PutUint32(record[copiedAt:], uint32(n))
	record[toGuestAt] = 0
	if toGuest {
		record[toGuestAt] = 1
	}
	first, rest := h.Words()
	binary.LittleEndian.PutUint64(record[firstAt:], first)
	binary.LittleEndian.PutUint32(record[restAt:], rest)
	known := copy(record[recordLen:recordLen+n], head) // what was looked at is what is told: the guest may change it
	copyFrom(record[recordLen+known:recordLen+n], chains, skip+known)
	t.written += uint64(size)
	t.taken++
	t.pace.take(n)
}

// passes reports whether frames are missed without being looked at: there are too many, and the tap has no filter.
func (t *Tap) passes() bool { return t.pace.isOver() && t.filter.SelectsAll() }

// pass misses frames, of which bytes were to be copied. It is for the writer.
func (t *Tap) pass(frames, bytes int) {
	t.pace.offer(frames, bytes)
	t.lost += uint64(frames)
}

// begin begins a turn. It looks how far the reader is: once a turn, since what the reader writes is in its processor's cache. It is for the writer.
func (t *Tap) begin(now int64) {
	t.freed = t.read.Load()
	t.pace.begin(now)
}

// place returns room in one piece for a record of n bytes, nil if there is none.
func (t *Tap) place(n int) []byte {
	n = (n + 7) &^ 7
	at := int(t.written & uint64(len(t.ring)-1))
	rest := 0 // of the ring, if the record has no room there
	if toEnd := len(t.ring) - at; toEnd < n {
		rest = toEnd
	}
	if t.written+uint64(n+rest)-t.freed > uint64(len(t.ring)) {
		return nil
	}
	if rest > 0 {
		t.skip(at, rest)
		at = 0
	}
	return t.ring[at : at+n]
}

// skip fills up the rest of the ring. A rest that is too short for a record's beginning is known by that.
func (t *Tap) skip(at, rest int) {
	if rest >= recordLen {
		binary.LittleEndian.PutUint32(t.ring[at+sizeAt:], uint32(rest))
		binary.LittleEndian.PutUint32(t.ring[at+lengthAt:], skipped)
	}
	t.written += uint64(rest)
}

// copyFrom copies from chains, as if they were one, beginning skip bytes into them.
func copyFrom(to []byte, chains []virtqueue.Chain, skip int) {
	for i := range chains {
		if len(to) == 0 {
			return
		}
		if n := int(chains[i].Len); skip >= n {
			skip -= n
			continue
		}
		to = to[guestmem.CopyFrom(to, chains[i].Iov, skip):]
		skip = 0
	}
}

// publish shows the reader what was put. It is for the writer.
func (t *Tap) publish() {
	t.published.Store(t.written)
	t.captured.Store(t.taken)
	t.missed.Store(t.lost)
}

// Captured returns how many frames were handed over, and Missed how many were not, for want of room. Any goroutine may call them.
func (t *Tap) Captured() uint64 { return t.captured.Load() }

// Missed is explained at Captured.
func (t *Tap) Missed() uint64 { return t.missed.Load() }

// Frame is a frame that was captured.
type Frame struct {
	Time    int64 // when its turn began, by the clock of the device, in nanoseconds
	ToGuest bool
	Header  vnet.Header
	Length  int    // of the frame in bytes, without the virtio-net header
	Data    []byte // the first bytes of the frame; the reader may change them
}

// Peek reads the oldest frame into f, and reports whether there is one. Its Data lie in the ring: they are the reader's until Drop.
// It is for the reader.
func (t *Tap) Peek(f *Frame) bool {
	for at := t.read.Load(); at != t.published.Load(); at = t.read.Load() {
		record := t.ring[at&uint64(len(t.ring)-1):]
		if len(record) < recordLen {
			t.read.Store(at + uint64(len(record)))
			continue
		}
		length := binary.LittleEndian.Uint32(record[lengthAt:])
		if length == skipped {
			t.read.Store(at + uint64(binary.LittleEndian.Uint32(record[sizeAt:])))
			continue
		}
		n := binary.LittleEndian.Uint32(record[copiedAt:])
		*f = Frame{
			Time: int64(binary.LittleEndian.Uint64(record[timeAt:])), ToGuest: record[toGuestAt] != 0, Length: int(length),
			Header: vnet.FromWords(binary.LittleEndian.Uint64(record[firstAt:]), binary.LittleEndian.Uint32(record[restAt:])),
			Data:   record[recordLen : recordLen+n : recordLen+n],
		}
		return true
	}
	return false
}

// Drop frees the frame that Peek has found. It is for the reader.
func (t *Tap) Drop() {
	at := t.read.Load()
	size := binary.LittleEndian.Uint32(t.ring[at&uint64(len(t.ring)-1)+sizeAt:])
	t.read.Store(at + uint64(size))
}
