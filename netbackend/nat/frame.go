package nat

import (
	"encoding/binary"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// packet is what is known of a frame while it is handled. All of it was checked against the frame's length.
type packet struct {
	netpkt.Packet
	chain     *virtqueue.Chain
	assembled bool // it came in fragments
	segment   int  // payload of each datagram that a UDP packet is to be cut into, 0 for none
}

// frame handles one frame of the guest. It, and what it calls for the frame, report whether the frame is to be tried again later:
// another queue pair has its flow.
func (p *Port) frame(t *turn, c *virtqueue.Chain) (retry bool) {
	t.counters.FramesIn++
	if int64(c.Len) < int64(t.headerLen+netpkt.EtherLen) {
		t.counters.Malformed++
		return false
	}
	n := guestmem.CopyFrom(p.head[:], c.Iov, 0)
	head := p.head[:n]
	var h vnet.Header
	h.Decode(head[:t.headerLen])
	if h.Check(int(c.Len)-t.headerLen, t.features) != nil {
		t.counters.BadHeader++
		return false
	}
	ether := head[t.headerLen:]
	etherType := binary.BigEndian.Uint16(ether[12:])
	if h.CheckEtherType(etherType) != nil {
		t.counters.BadHeader++
		return false
	}
	t.learn(binary.BigEndian.Uint64(ether[4:]) & (1<<48 - 1)) // bytes 6 to 11
	switch etherType {
	case netpkt.EtherIPv4:
		return p.ipv4(t, c, &h, head)
	case netpkt.EtherIPv6:
		return p.ipv6(t, c, &h, head)
	case netpkt.EtherARP:
		p.link.arp(t, c)
	default:
		t.counters.Unsupported++
	}
	return false
}

// learn takes note of which host of the guest a frame comes from, by its packed MAC address, and that what is made next goes
// there.
func (t *turn) learn(mac uint64) {
	if t.from == hosts.Any || !t.hosts.Is(t.from, mac) {
		t.from = t.meet(mac)
	}
	t.to = t.from
}

// meet returns the host with a packed MAC address, hosts.Any if no host can have it.
func (t *turn) meet(mac uint64) hosts.ID {
	const group = 1 << 40
	if mac&group != 0 || mac == 0 || mac == hosts.PackMAC(t.cfg.GatewayMAC) {
		return hosts.Any
	}
	return t.hosts.Meet(mac, t.now)
}

// learnAddress takes note that a host uses an address. Connections that were waiting for that are begun at once.
func (t *turn) learnAddress(a *ipaddr.Addr, id hosts.ID) {
	if !t.hosts.Learn(a, id, t.now) {
		return
	}
	t.foundMore()
	t.hooks.located()
	if t.alone() {
		return
	}
	for _, q := range t.pairs.shards {
		if q != &t.shard {
			q.wake() // its connections may wait for that
		}
	}
}

// foundMore reports whether hosts of the guest were found since it was asked last.
func (s *shard) foundMore() bool {
	before := s.found
	s.found = s.hosts.Found()
	return s.found != before
}

// followHosts lets flows follow addresses that have become another host's: a flow in which the guest has nothing to say would
// not show it. It does so seldom, for all flows are looked at.
func (t *turn) followHosts() {
	if t.followed != t.hosts.Moved() && t.now >= t.followAt {
		t.moveFlows()
	}
}

func (t *turn) moveFlows() {
	const pause = int64(100e6)
	t.followed, t.followAt = t.hosts.Moved(), t.now+pause
	t.flows.each(t.me, func(f *flow) {
		if user := t.hosts.User(&f.key.Guest); user != hosts.Any {
			f.host = user
		}
	})
}

// moved takes note that the packets of a flow come from another host than before.
func (t *turn) moved(f *flow) {
	if t.from == hosts.Any {
		return
	}
	f.host = t.from
	t.learnAddress(&f.key.Guest, f.host)
}

// ipv4 checks an IPv4 header and hands on what it carries.
func (p *Port) ipv4(t *turn, c *virtqueue.Chain, h *vnet.Header, head []byte) (retry bool) {
	start := t.headerLen + netpkt.EtherLen
	k := packet{chain: c}
	if !k.ParseIPv4(head[start:], start, int64(c.Len)) {
		t.counters.Malformed++
		return false
	}
	if !k.Part.IsAll() {
		return p.fragment(t, &k)
	}
	return p.packet(t, &k, h)
}

// packet handles a whole packet of either version of IP.
func (p *Port) packet(t *turn, k *packet, h *vnet.Header) (retry bool) {
	if t.others[k.Src] {
		t.counters.Impostors++
		return false
	}
	if h.GSOType == vnet.GSOUDPL4 {
		k.segment = int(h.GSOSize)
	}
	switch {
	case k.Proto == netpkt.TCP:
		return p.tcp.tcp(t, k)
	case k.Proto == netpkt.UDP:
		return p.udp.datagram(t, k)
	case k.Proto == netpkt.ICMPProto(&k.Src):
		if k.assembled {
			return p.assembledICMP(t, k)
		}
		if k.Src.HeaderLen()+k.L4Len > t.mtu {
			t.counters.Malformed++ // it would have come in fragments
			return false
		}
		return p.controlMessage(t, k)
	default:
		p.unspoken(t, k, k.Proto, true)
	}
	return false
}

// key returns the flow that ports of a packet name; !ok if its addresses or ports cannot be those of a conversation.
func (s *shard) key(k *packet, proto uint8) (key flowtable.Key, ok bool) {
	key = flowtable.Key{
		Guest: k.Src, Remote: k.Dst, Proto: proto,
		GuestPort: binary.BigEndian.Uint16(k.L4), RemotePort: binary.BigEndian.Uint16(k.L4[2:]),
	}
	return key, key.GuestPort != 0 && key.RemotePort != 0 && s.conversational(k) && !s.nets.IsBroadcast(&k.Dst)
}

// conversational tells whether the addresses of a packet can be those of a conversation.
func (s *shard) conversational(k *packet) bool {
	return k.Src.IsUnicast() && k.Dst.IsUnicast() && !s.nets.IsOurs(&k.Src) && !k.Src.IsLoopback()
}

// appendRange appends the bytes [offset, offset+n) of iov to dst, without looking at them. !ok means that dst is full,
// or iov too short.
func appendRange(dst []guestmem.Iovec, iov []guestmem.Iovec, offset, n int) (_ []guestmem.Iovec, ok bool) {
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

// copyFrame copies a whole frame, without its virtio-net header, for those who are in no hurry. nil if it is too long.
func (t *turn) copyFrame(c *virtqueue.Chain) []byte {
	if int64(c.Len) > int64(len(t.slow)) {
		t.counters.Malformed++
		return nil
	}
	n := guestmem.CopyFrom(t.slow, c.Iov, 0)
	return t.slow[t.headerLen:n]
}

// putIP writes the Ethernet and IP headers of a packet to the host p.to of the guest into b, and returns their length. proto is
// netpkt.TCP, netpkt.UDP or netpkt.ICMP, and n the length of what follows.
func (t *turn) putIP(b []byte, src, dst *ipaddr.Addr, proto uint8, n int) (headers int) {
	hosts.PutMAC(b, t.hosts.MAC(t.to))
	copy(b[6:], t.cfg.GatewayMAC[:])
	if dst.Is4() {
		binary.BigEndian.PutUint16(b[12:], netpkt.EtherIPv4)
		netpkt.PutIPv4(b[netpkt.EtherLen:netpkt.EtherLen+netpkt.IPv4Len], src, dst, proto, n)
		if t.pairs.paths.Any() {
			t.permitFragments(b[netpkt.EtherLen:], dst, proto, n)
		}
		return netpkt.EtherLen + netpkt.IPv4Len
	}
	binary.BigEndian.PutUint16(b[12:], netpkt.EtherIPv6)
	netpkt.PutIPv6(b[netpkt.EtherLen:netpkt.EtherLen+netpkt.IPv6Len], src, dst, proto, n)
	return netpkt.EtherLen + netpkt.IPv6Len
}

// send writes a whole frame of ours to the guest, and tells whether there was room.
func (t *turn) send(frame []byte) bool {
	var h vnet.Header
	if t.rxFull || !t.rx.Write(&h, frame) {
		t.rxFull = true
		return false
	}
	return true
}

// sumRange returns the checksum of n bytes of guest memory from offset on, added to initial. It copies them piecewise:
// the guest may change them meanwhile, which harms only itself.
func (t *turn) sumRange(iov []guestmem.Iovec, offset, n int, initial uint16) uint16 {
	for n > 0 {
		piece := t.slow[:min(n, len(t.slow)&^1)]
		guestmem.CopyFrom(piece, iov, offset)
		initial = vnet.Sum(piece, initial)
		offset += len(piece)
		n -= len(piece)
	}
	return initial
}
