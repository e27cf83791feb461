package l2switch

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/fdb"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// FuzzSwitch lets a guest send whatever it likes, in chains of whatever descriptors, to guests that take some offloads, none, and
// have no tags, one of which has a router. No slot is lost, each frame is counted once, and nobody gets a header that he has not asked for, or
// what only his router sends.
//
// The input is a sequence of frames: a byte that chooses lengths of descriptors, the virtio-net header, the length of the
// frame, and the frame's first bytes.
func FuzzSwitch(f *testing.F) {
	head := func(h vnet.Header, length int, first ...byte) []byte {
		b := make([]byte, vnet.HeaderLen)
		h.Encode(b)
		return append(binary.BigEndian.AppendUint16(append([]byte{0}, b...), uint16(length)), first...)
	}
	ethernet := append([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0}, 8, 0, 0x45)
	f.Add(head(vnet.Header{}, 60, ethernet...))
	f.Add(head(vnet.Header{Flags: 1, CsumStart: 34, CsumOffset: 16, GSOType: vnet.GSOTCPv4, GSOSize: 500}, 4000, ethernet...))
	f.Add(head(vnet.Header{Flags: 1, CsumStart: 18, CsumOffset: 16}, 100, append(ethernet[:12:12], 0x81, 0, 0, 10, 8, 0)...))
	f.Add(head(vnet.Header{Flags: 1, CsumStart: 54, CsumOffset: 6, GSOType: vnet.GSOUDPL4, GSOSize: 1}, 300, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0, 0x86, 0xdd))
	f.Add(head(vnet.Header{}, 60, append(append(ethernet[:12:12], 8, 6, 0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 0), 10, 0, 2, 2)...))
	f.Add(head(vnet.Header{}, 120, append(ethernet[:12:12], 0x86, 0xdd, 0x60, 0, 0, 0, 0, 60, 0, 255)...))
	f.Fuzz(func(t *testing.T, input []byte) {
		sw, err := New(Default())
		require.NoError(t, err)
		takes := []uint64{receiveOffloads | transmitOffloads, vnet.FeatureGuestCSum, 0}
		rigs := make([]*rig, len(takes))
		for i, features := range takes {
			cfg := PortConfig{VLAN: 1, Tagged: []uint16{10}}
			if i == 2 {
				cfg = PortConfig{VLAN: 10}
			}
			rigs[i] = newRigWith(t, sw, cfg, vqtest.Heap)
			require.NoError(t, rigs[i].port.Start(rigMTU|features, porttest.DeafWorker{}))
			if i == 1 {
				require.NoError(t, rigs[i].port.SetRouter(Router{
					MAC: [6]byte{0x52, 0x55, 10, 0, 2, 2}, Addrs: []netip.Addr{netip.MustParseAddr("10.0.2.2"), netip.MustParseAddr("fe80::2")},
					DHCP: true, DHCPv6: true, Advertisements: true,
				}))
			}
			addresses(rigs[i].put(60), fdb.MACMask, rigMAC(i))
			rigs[i].round(1)
			rigs[i].sent()
		}
		a := rigs[0]
		frames := uint64(1)
		for now := int64(1e6); len(input) >= 30 && frames < 64; now += 1e6 {
			input = a.putFuzzed(input)
			frames++
			for i, r := range rigs {
				r.post(64)
				r.round(now)
				r.checkHeaders(takes[i])
			}
			a.sent()
		}
		for i, r := range rigs {
			for n := 0; n < 100 && r.port.inbox.look() > 0; n++ {
				r.post(rigRing)
				r.round(1e12)
				r.checkHeaders(takes[i])
			}
			r.whole()
		}
		require.Equal(t, frames, sentOrDropped(a.port.Counters()))
		for _, r := range rigs {
			require.NoError(t, r.port.Close()) // each has a descriptor
		}
	})
}

// putFuzzed puts a frame of the input into the ring, and returns the rest of the input.
func (r *rig) putFuzzed(in []byte) []byte {
	cut, header, length := int(in[0]), in[1:1+vnet.HeaderLen], int(binary.BigEndian.Uint16(in[13:]))%rigSlot
	in = in[15:]
	if r.tx.Free() < 4 {
		return in
	}
	ids := r.tx.Take(3)
	at := r.outs[ids[0]]
	b := r.mem.Bytes(at, rigSlot)
	clear(b)
	copy(b, header)
	n := min(len(in), length, rigSlot-vnet.HeaderLen, 80)
	copy(b[vnet.HeaderLen:], in[:n])
	total := min(vnet.HeaderLen+length, rigSlot)
	for i, l := range []int{min(cut, total), min(cut/7, max(0, total-cut)), max(0, total-cut-cut/7)} {
		d := vqtest.Desc{Addr: uint64(at), Len: uint32(l)}
		if i < 2 {
			d.Flags, d.Next = vqtest.Next, ids[i+1]
		}
		r.tx.RawDesc(ids[i], d)
		at += guestmem.GPA(l)
	}
	r.tx.AddHead(ids[0])
	return in[n:]
}

// checkHeaders checks the headers of what the guest has got.
func (r *rig) checkHeaders(features uint64) {
	more := 0
	for {
		head, n, ok := r.rx.Used()
		if !ok {
			return
		}
		if more > 0 {
			more--
			continue
		}
		var h vnet.Header
		h.Decode(r.mem.Bytes(r.ins[head], int(n))[:vnet.HeaderLen])
		more = int(h.NumBuffers) - 1
		require.True(r.t, h.AcceptedBy(features), "%+v", h)
		require.GreaterOrEqual(r.t, int(n), netbackend.MinFrame)
		const whole = 2000 // of one buffer
		if g := r.port.guard.Load(); g != nil && n < whole {
			require.False(r.t, g.refuses(r.mem.Bytes(r.ins[head], int(n))[vnet.HeaderLen+vnet.EthernetHeaderLen-2:]))
		}
	}
}

// sentOrDropped returns how many frames of the guest were counted.
func sentOrDropped(c Counters) uint64 {
	n := c.Sent
	for r := badHeader; r <= uncut; r++ {
		n += *c.count(r)
	}
	return n
}
