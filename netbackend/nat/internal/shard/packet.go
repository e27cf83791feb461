package shard

import (
	"encoding/binary"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// Packet is what is known of a frame while it is handled. All of it was checked against the frame's length.
type Packet struct {
	netpkt.Packet
	Chain     *virtqueue.Chain
	Assembled bool // it came in fragments
	Segment   int  // payload of each datagram that a UDP packet is to be cut into, 0 for none
}

// KeyOf returns the flow that ports of a packet name; !ok if its addresses or ports cannot be those of a conversation.
func (s *Shard) KeyOf(k *Packet, proto uint8) (key flowtable.Key, ok bool) {
	key = flowtable.Key{
		Guest: k.Src, Remote: k.Dst, Proto: proto,
		GuestPort: binary.BigEndian.Uint16(k.L4), RemotePort: binary.BigEndian.Uint16(k.L4[2:]),
	}
	return key, key.GuestPort != 0 && key.RemotePort != 0 && s.IsUnicastPeer(k) && !s.Nets.IsBroadcast(&k.Dst)
}

// IsUnicastPeer tells whether the addresses of a packet can be those of a conversation.
func (s *Shard) IsUnicastPeer(k *Packet) bool {
	return k.Src.IsUnicast() && k.Dst.IsUnicast() && !s.Nets.IsOurs(&k.Src) && !k.Src.IsLoopback()
}

// CopyFrame copies a whole frame, without its virtio-net header, for those who are in no hurry. nil if it is too long.
func (t *Turn) CopyFrame(c *virtqueue.Chain) []byte {
	if int64(c.Len) > int64(len(t.Frame)) {
		t.Drop(&t.Counters.Malformed)
		return nil
	}
	n := guestmem.CopyFrom(t.Frame, c.Iov, 0)
	return t.Frame[t.HeaderLen:n]
}

// CopyPayload copies the payload of a datagram, whose length with the UDP header is that, for those who are in no hurry. nil if
// the frame is too long.
func (t *Turn) CopyPayload(k *Packet, length int) []byte {
	start := k.L4Offset - t.HeaderLen
	frame := t.CopyFrame(k.Chain)
	if frame == nil {
		return nil
	}
	return frame[start+netpkt.UDPLen : start+length]
}

// UsualHops is the time to live that most systems send with. A smaller one is meant: somebody traces a route.
const UsualHops = 64

// MannerOf returns how a packet of the guest travels on.
func (s *Shard) MannerOf(k *Packet) hostsock.Manner {
	m := hostsock.Manner{PMTU: hostsock.MayFragment, HopLimit: s.HopsLeft(k.Hops, &k.Dst), TrafficClass: k.TOS}
	if k.Whole {
		m.PMTU = hostsock.DontFragment
	}
	return m
}

// HopsLeft returns the time to live with which a packet goes on that came with hops; 0 for as many as the host gives.
func (s *Shard) HopsLeft(hops uint8, dst *ipaddr.Addr) uint8 {
	if hops >= UsualHops || s.Nets.IsOurs(dst) {
		return 0
	}
	return hops - 1
}
