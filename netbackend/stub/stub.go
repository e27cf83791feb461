package stub

import (
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/testframe"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	// transmitOffloads are the features by which the guest leaves work to us, and receiveOffloads those by which we may
	// leave the same work to the guest.
	transmitOffloads = vnet.FeatureCSum |
		vnet.FeatureHostTSO4 | vnet.FeatureHostTSO6 | vnet.FeatureHostECN | vnet.FeatureHostUSO
	receiveOffloads = vnet.FeatureGuestCSum |
		vnet.FeatureGuestTSO4 | vnet.FeatureGuestTSO6 | vnet.FeatureGuestECN | vnet.FeatureGuestUSO4 | vnet.FeatureGuestUSO6
)

// Counters are plain numbers of the worker's thread, since the Port was made.
type Counters struct {
	Frames     uint64 `counter:"frames" help:"Frames taken from the guest in good order."`
	Bytes      uint64 `counter:"bytes" unit:"bytes" help:"Bytes of frames taken from the guest, without virtio-net headers."`
	SentFrames uint64 `counter:"sent_frames" help:"Frames given to the guest."`
	SentBytes  uint64 `counter:"sent_bytes" unit:"bytes" help:"Bytes of frames given to the guest, without virtio-net headers."`
	Bad        uint64 `counter:"bad" kind:"drop" help:"Chains that were malformed, or with a virtio-net header that lies."`
	Missed     uint64 `counter:"missed" kind:"drop" help:"Frames of a source that were due but found no receive buffer."`
	testframe.Counts
	Undeliverable uint64 `counter:"undeliverable" kind:"drop" help:"Frames that cannot go back: longer than a frame can be, or with an offload that the guest does not take."`
}

// base is what the Ports have in common.
type base struct {
	features  uint64
	headerLen int
	counters  Counters
	scratch   [vnet.HeaderLen]byte
}

// Start implements netbackend.Port.
func (b *base) Start(features uint64, _ netbackend.Worker) error {
	b.features, b.headerLen = features, vnet.HeaderLength(features)
	return nil
}

// RingsChanged implements netbackend.Port.
func (b *base) RingsChanged(netbackend.RingState) {}

// Close implements netbackend.Port. There is nothing to release.
func (b *base) Close() error { return nil }

// Counters returns what was counted so far. It is for the worker's thread, or for anybody after Close.
func (b *base) Counters() Counters { return b.counters }

// swallow takes frames that go nowhere.
func (b *base) swallow(tx []virtqueue.Chain) {
	var frames, bytes uint64
	for i := range tx {
		_, length, ok := b.plain(&tx[i])
		if !ok {
			_, length, ok = b.header(&tx[i])
		}
		if !ok {
			b.counters.Bad++
			continue
		}
		frames++
		bytes += uint64(length)
	}
	b.counters.Frames += frames
	b.counters.Bytes += bytes
}

// plain is the short way for what most headers are: in one piece, and of a frame that asks for no offload. It returns the
// first word of the header as it may go back, and the length of the frame. If it is not ok, header knows more.
func (b *base) plain(c *virtqueue.Chain) (first uint64, length int, ok bool) {
	length = int(c.Len) - vnet.HeaderLen
	if length < vnet.EthernetHeaderLen || b.headerLen != vnet.HeaderLen || c.Iov[0].Len < vnet.HeaderLen {
		return 0, 0, false
	}
	first, ok = vnet.PlainWords(c.Iov[0].Word64(0), length)
	return first, length, ok
}

// header copies and checks the virtio-net header of a chain, and returns the length of the frame behind it. If it is
// not ok, the chain is to be used up.
func (b *base) header(c *virtqueue.Chain) (h vnet.Header, length int, ok bool) {
	length = int(c.Len) - b.headerLen
	if length < vnet.EthernetHeaderLen {
		return h, 0, false
	}
	if v := &c.Iov[0]; b.headerLen == vnet.HeaderLen && v.Len >= vnet.HeaderLen {
		h = vnet.FromWords(v.Word64(0), v.Word32(8))
	} else {
		guestmem.CopyFrom(b.scratch[:b.headerLen], c.Iov, 0)
		h.Decode(b.scratch[:b.headerLen])
	}
	if h.Plain() {
		return h, length, true
	}
	return h, length, h.Check(length, b.features) == nil
}
