package capture

import (
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// Hook is all taps of a queue pair. Its methods are for the pair's thread, inside of guestmem.Guard. They allocate nothing and wait for nobody.
type Hook struct {
	taps      []*Tap
	now       int64
	headerLen int
	header    [vnet.HeaderLen]byte
}

// NewHook returns a hook for taps; nil if there are none. A tap may be given to the next hook of the same pair.
func NewHook(taps []*Tap) *Hook {
	if len(taps) == 0 {
		return nil
	}
	return &Hook{taps: append([]*Tap(nil), taps...)}
}

// Begin begins a turn at a time in nanoseconds, with virtio-net headers of headerLen bytes.
func (h *Hook) Begin(now int64, headerLen int) {
	h.now, h.headerLen = now, headerLen
	for _, t := range h.taps {
		t.begin(now)
	}
}

// FromGuest captures frames that the guest has sent: one in each chain, behind its header. Chains that hold no frame are left out.
func (h *Hook) FromGuest(chains []virtqueue.Chain) {
	if h.passes() {
		h.pass(chains)
		return
	}
	for i := range chains {
		length := int(chains[i].Len) - h.headerLen
		if length < vnet.EthernetHeaderLen {
			continue
		}
		var v vnet.Header
		guestmem.CopyFrom(h.header[:h.headerLen], chains[i].Iov, 0)
		v.Decode(h.header[:h.headerLen])
		for _, t := range h.taps {
			t.put(h.now, false, &v, chains[i:i+1], h.headerLen, length)
		}
	}
}

// passes reports whether all taps miss what comes without looking at it.
func (h *Hook) passes() bool {
	for _, t := range h.taps {
		if !t.passes() {
			return false
		}
	}
	return true
}

// pass misses frames that the guest has sent. Neither they nor their headers are touched.
func (h *Hook) pass(chains []virtqueue.Chain) {
	for _, t := range h.taps {
		frames, bytes := 0, 0
		for i := range chains {
			if length := int(chains[i].Len) - h.headerLen; length >= vnet.EthernetHeaderLen {
				frames++
				bytes += min(length, t.snapLen)
			}
		}
		t.pass(frames, bytes)
	}
}

// ToGuest captures a frame of length bytes that is given to the guest, with its header in front of it. It lies in chains.
func (h *Hook) ToGuest(header *vnet.Header, chains []virtqueue.Chain, length int) {
	for _, t := range h.taps {
		if t.passes() {
			t.pass(1, min(length, t.snapLen))
			continue
		}
		t.put(h.now, true, header, chains, h.headerLen, length)
	}
}

// End ends a turn: readers see what was captured.
func (h *Hook) End() {
	for _, t := range h.taps {
		t.publish()
	}
}
