package shard

import (
	"encoding/binary"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// PutArrival writes a into the IP header ip, whose other fields are there.
func PutArrival(a hostsock.Arrival, ip []byte) {
	if a != (hostsock.Arrival{}) {
		netpkt.SetHops(ip, a.HopLimit, a.TrafficClass)
	}
}

// AppendRange appends the bytes [offset, offset+n) of iov to dst, without looking at them. !ok means that dst is full,
// or iov too short.
func AppendRange(dst []guestmem.Iovec, iov []guestmem.Iovec, offset, n int) (_ []guestmem.Iovec, ok bool) {
	for _, v := range iov {
		if n <= 0 {
			return dst, true
		}
		if uint64(offset) >= v.Len {
			offset -= int(v.Len)
			continue
		}
		if len(dst) == cap(dst) {
			return dst, false
		}
		part := min(v.Len-uint64(offset), uint64(n))
		dst = append(dst, guestmem.Iovec{Base: v.Base + uintptr(offset), Len: part})
		offset = 0
		n -= int(part)
	}
	return dst, n <= 0
}

// PutIP writes the Ethernet and IP headers of a packet to the host p.to of the guest into b, and returns their length. proto is
// netpkt.TCP, netpkt.UDP or netpkt.ICMP, and n the length of what follows.
func (t *Turn) PutIP(b []byte, src, dst *ipaddr.Addr, proto uint8, n int) (headers int) {
	hosts.PutMAC(b, t.Hosts.MAC(t.To))
	copy(b[6:], t.Cfg.GatewayMAC[:])
	if dst.Is4() {
		binary.BigEndian.PutUint16(b[12:], netpkt.EtherIPv4)
		netpkt.PutIPv4(b[netpkt.EtherLen:netpkt.EtherLen+netpkt.IPv4Len], src, dst, proto, n)
		if t.Pairs.Paths.Any() {
			t.permitFragments(b[netpkt.EtherLen:], dst, proto, n)
		}
		return netpkt.EtherLen + netpkt.IPv4Len
	}
	binary.BigEndian.PutUint16(b[12:], netpkt.EtherIPv6)
	netpkt.PutIPv6(b[netpkt.EtherLen:netpkt.EtherLen+netpkt.IPv6Len], src, dst, proto, n)
	return netpkt.EtherLen + netpkt.IPv6Len
}

// Send writes a whole frame of ours to the guest, and tells whether there was room.
func (t *Turn) Send(frame []byte) bool {
	var h vnet.Header
	if t.RXFull || !t.RX.Write(&h, frame) {
		t.RXFull = true
		return false
	}
	return true
}

// SumRange returns the checksum of n bytes of guest memory from offset on, added to initial. It copies them piecewise:
// the guest may change them meanwhile, which harms only itself.
func (t *Turn) SumRange(iov []guestmem.Iovec, offset, n int, initial uint16) uint16 {
	for n > 0 {
		piece := t.Frame[:min(n, len(t.Frame)&^1)]
		guestmem.CopyFrom(piece, iov, offset)
		initial = vnet.Sum(piece, initial)
		offset += len(piece)
		n -= len(piece)
	}
	return initial
}

// HasIPv6 tells whether the guest has a network of IPv6. It takes an MTU that IPv6 can do with (RFC 8200 section 5).
func (s *Shard) HasIPv6() bool { return s.Nets.V6.Prefix.IsValid() && s.MTU >= netpkt.MinMTU6 }

// A guest may route, to containers or into a VPN, over links that carry less than its own. Its kernel drops what does not
// fit there and says so by ICMP (file icmp_report.go). The engine is the remote end of the guest's conversations, so it
// obeys: TCP sends smaller segments, other packets of IPv4 may be cut on the way, and datagrams of IPv6 leave in fragments.

// PathMTU is the longest packet in bytes that reaches an address of the guest's, or behind the guest.
func (s *Shard) PathMTU(to *ipaddr.Addr) int { return s.Pairs.Paths.MTU(to, s.MTU, s.LastTurn) }

// permitFragments lets routers cut a packet to the guest, with a header as netpkt.PutIPv4 writes it and n bytes behind it, if it is too
// long for its path. TCP has been told to be shorter; it is cut only where the path is narrower than it can be.
func (s *Shard) permitFragments(ip []byte, dst *ipaddr.Addr, proto uint8, n int) {
	mtu := s.PathMTU(dst)
	if netpkt.IPv4Len+n <= mtu || proto == netpkt.TCP && mtu >= netpkt.MinMTU4 {
		return
	}
	const leastCut = 512 // so many bytes are in each packet at least that the guest's kernel makes of a frame
	s.packetID += uint16(1 + n/leastCut)
	netpkt.PermitFragments(ip, s.packetID-uint16(n/leastCut))
}

// Reply sends an answer of a service, if there is one. Whoever asked will ask again if it is lost.
func (t *Turn) Reply(frame []byte) {
	if frame != nil && !t.Send(frame) {
		t.Drop(&t.Counters.NoRoom)
	}
}

// UDPFrame builds a datagram to the guest, from the remote end of key.
func (t *Turn) UDPFrame(mac [6]byte, key *flowtable.Key, payload []byte) []byte {
	b := make([]byte, UDPHeaders(&key.Guest)+len(payload))
	n := netpkt.UDPLen + len(payload)
	udp := b[t.PutIP(b, &key.Remote, &key.Guest, netpkt.UDP, n):]
	copy(b, mac[:])
	netpkt.PutUDP(udp, key.RemotePort, key.GuestPort, n)
	copy(udp[netpkt.UDPLen:], payload)
	binary.BigEndian.PutUint16(udp[6:], netpkt.UDPChecksum(vnet.Sum(udp, PseudoSum(key, n))))
	return b
}

// Capacity is the sum of the lengths in iov.
func Capacity(iov []guestmem.Iovec) int {
	n := 0
	for _, v := range iov {
		n += int(v.Len)
	}
	return n
}

// UDPHeaders is the length of what stands in front of the payload in a frame with a datagram to a.
func UDPHeaders(a *ipaddr.Addr) int { return netpkt.EtherLen + a.HeaderLen() + netpkt.UDPLen }

// PseudoSum is the sum of the pseudo header of a segment or datagram to the guest, n bytes long with its header.
func PseudoSum(k *flowtable.Key, n int) uint16 {
	return netpkt.PseudoSum(k.Proto, &k.Remote, &k.Guest, n)
}

// BounceFor is what message i of several has beyond its receive buffer.
func (t *Turn) BounceFor(i int) []byte { return t.bounce[i*BounceLen : (i+1)*BounceLen] }
