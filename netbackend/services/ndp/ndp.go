package ndp

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/vringnet/vring/netbackend/services/hostconf"
)

// How long the guest may rely on what it was told, in seconds. Advertisements come more often, see Interval, and these
// times are short, so that nothing stale is left in a guest whose network is another one after a while (RFC 9096 section
// 3.3).
const (
	routerLifetime    = 1800
	preferredLifetime = 2700
	validLifetime     = 5400
	dnsLifetime       = 1800
	// Interval is how many seconds may be between advertisements (RFC 4861 section 6.2.1).
	Interval = 600
)

const (
	etherLen = header.EthernetMinimumSize
	ipLen    = header.IPv6MinimumSize

	// hopLimit shows that no router has passed a message on: one from elsewhere has less (RFC 4861 section 3.1).
	hopLimit    = 255
	hopsOfGuest = 64 // what guests are to send with

	adRouter, adSolicited, adOverride = 1 << 31, 1 << 30, 1 << 29 // flags of a neighbour advertisement
	onLink, autonomous                = 1 << 7, 1 << 6            // flags of a prefix
	managed, otherConfiguration       = 1 << 7, 1 << 6            // flags of a router advertisement: there is DHCPv6 (package dhcp6)

	optionSource, optionTarget, optionPrefix, optionMTU = 1, 2, 3, 5
	optionDNS, optionSearch                             = 25, 31

	maxSearch = 512 // bytes of search domains, so that an advertisement fits every link
)

// Config tells what the guest is told.
type Config struct {
	MAC       [6]byte      // of all of the network's addresses
	LinkLocal netip.Addr   // of the router
	Addrs     []netip.Addr // other addresses to answer for
	// Guest, if valid, is the guest's address, and all but this and those that hosts look for by themselves are answered for.
	Guest     netip.Addr
	Silent    bool         // routers are not advertised
	Stateless bool         // there is no DHCPv6
	Prefix    netip.Prefix // of the network
	DNS       []netip.Addr // name servers
	// Search returns the domains in which names are looked up; nil says nothing about it.
	Search func() []string
}

// Responder answers the guest.
type Responder struct {
	cfg     Config
	aliases []netip.Addr
}

// New returns a Responder.
func New(cfg Config) *Responder { return &Responder{cfg: cfg} }

// SetAliases lets r answer for some addresses, too, in the place of those that it was told before. It keeps them. Those of IPv4 do not
// matter.
func (r *Responder) SetAliases(addrs []netip.Addr) { r.aliases = addrs }

// Sender is a host that a message tells of.
type Sender struct {
	MAC [6]byte    // from which the frame came
	IP  netip.Addr // the zero Addr if the message does not tell, as that of a host that looks for an address does not
}

// Answer looks at frame, a whole Ethernet frame with a message of neighbour discovery that the guest cannot change
// meanwhile. reply is the frame to send to the guest, nil for none. ok tells that the message is well-formed and sender
// whom it tells of. mtu is the guest's, in bytes.
func (r *Responder) Answer(frame []byte, mtu int) (reply []byte, sender Sender, ok bool) {
	m, ok := parse(frame)
	if !ok {
		return nil, Sender{}, false
	}
	sender.MAC = m.mac
	if !m.src.IsUnspecified() {
		sender.IP = m.src
	}
	switch m.icmp.Type() {
	case header.ICMPv6RouterSolicit:
		reply, ok = r.routerSolicited(&m, mtu)
	case header.ICMPv6NeighborSolicit:
		reply, ok = r.neighbourSolicited(&m)
	case header.ICMPv6NeighborAdvert:
		sender.IP, ok = advertised(&m)
	}
	if !ok || r.isOurs(sender.IP) {
		return reply, Sender{}, ok
	}
	return reply, sender, true
}

// advertised returns the address that a neighbour advertisement tells of.
func advertised(m *message) (netip.Addr, bool) {
	if len(m.icmp) < header.ICMPv6NeighborAdvertMinimumSize {
		return netip.Addr{}, false
	}
	a := addr(header.NDPNeighborAdvert(m.icmp.MessageBody()).TargetAddress())
	return a, !a.IsMulticast() && !a.IsUnspecified()
}

// isOurs reports whether a is one of the addresses to answer for.
func (r *Responder) isOurs(a netip.Addr) bool {
	return a == r.cfg.LinkLocal || slices.Contains(r.cfg.Addrs, a) || slices.Contains(r.aliases, a)
}

// isOthers reports whether an address is that of a host beyond the engine, for which it answers. Who asks without an address of its own looks
// whether it may have that one.
func (r *Responder) isOthers(a, asks netip.Addr) bool {
	return r.cfg.Guest.IsValid() && a != r.cfg.Guest && a != asks && !asks.IsUnspecified()
}

// message is a message of the guest.
type message struct {
	mac      [6]byte
	src, dst netip.Addr
	icmp     header.ICMPv6
}

// parse checks what is common to all messages (RFC 4861 sections 6.1 and 7.1). The checksum is not looked at, for no wire can
// have damaged it.
func parse(frame []byte) (m message, ok bool) {
	if len(frame) < etherLen+ipLen+header.ICMPv6MinimumSize {
		return m, false
	}
	ip := header.IPv6(frame[etherLen:])
	if header.Ethernet(frame).Type() != header.IPv6ProtocolNumber || ip.HopLimit() != hopLimit ||
		ip.NextHeader() != uint8(header.ICMPv6ProtocolNumber) || len(ip)-ipLen < int(ip.PayloadLength()) {
		return m, false
	}
	m = message{
		mac: [6]byte(frame[6:12]),
		src: addr(ip.SourceAddress()), dst: addr(ip.DestinationAddress()),
		icmp: header.ICMPv6(ip.Payload()),
	}
	return m, len(m.icmp) >= header.ICMPv6MinimumSize && m.icmp.Code() == 0 && !m.src.IsMulticast()
}

// checkOptions checks the options of a solicitation: who has no address yet has nothing to say of where it is.
func (m *message) checkOptions(options header.NDPOptions) bool {
	it, err := options.Iter(true)
	if err != nil {
		return false
	}
	for {
		o, done, err := it.Next()
		if done || err != nil {
			return err == nil
		}
		if _, source := o.(header.NDPSourceLinkLayerAddressOption); source && m.src.IsUnspecified() {
			return false
		}
	}
}

func (r *Responder) routerSolicited(m *message, mtu int) (reply []byte, ok bool) {
	const fixed = header.ICMPv6MinimumSize // type, code, checksum and a reserved word
	if !m.checkOptions(header.NDPOptions(m.icmp[fixed:])) {
		return nil, false
	}
	if r.cfg.Silent {
		return nil, true
	}
	if m.src.IsUnspecified() {
		return r.Advertisement(mtu), true
	}
	return r.advertise(m.mac, m.src, mtu), true
}

func (r *Responder) neighbourSolicited(m *message) (reply []byte, ok bool) {
	if len(m.icmp) < header.ICMPv6NeighborSolicitMinimumSize {
		return nil, false
	}
	ask := header.NDPNeighborSolicit(m.icmp.MessageBody())
	target := addr(ask.TargetAddress())
	if target.IsMulticast() || !m.checkOptions(ask.Options()) ||
		m.src.IsUnspecified() && !header.IsSolicitedNodeAddr(tcpip.AddrFrom16(m.dst.As16())) {
		return nil, false
	}
	if !r.isOurs(target) && !r.isOthers(target, m.src) {
		return nil, true
	}
	to, mac, flags := m.src, m.mac, uint32(adRouter|adSolicited|adOverride)
	if to.IsUnspecified() { // the guest wants the address itself, and is to learn that it is taken (RFC 4862 section 5.4)
		to, mac, flags = allNodes, multicastMAC(allNodes), adRouter|adOverride
	}
	body := binary.BigEndian.AppendUint32(nil, flags)
	body = append(body, target.AsSlice()...)
	body = appendOption(body, optionTarget, r.cfg.MAC[:])
	return r.frame(mac, target, to, header.ICMPv6NeighborAdvert, body), true
}

// allNodes is everybody on the link.
var allNodes = netip.IPv6LinkLocalAllNodes()

// Advertisement returns a router advertisement for everybody, which may be sent at any time. mtu is the guest's, in bytes.
func (r *Responder) Advertisement(mtu int) []byte {
	return r.advertise(multicastMAC(allNodes), allNodes, mtu)
}

// advertise returns a router advertisement (RFC 4861 section 4.2).
func (r *Responder) advertise(mac [6]byte, to netip.Addr, mtu int) []byte {
	flags := byte(managed | otherConfiguration)
	if r.cfg.Stateless {
		flags = 0
	}
	body := []byte{hopsOfGuest, flags, routerLifetime >> 8, routerLifetime & 0xff, 0, 0, 0, 0, 0, 0, 0, 0}
	body = appendOption(body, optionSource, r.cfg.MAC[:])
	body = appendOption(body, optionMTU, words(0, uint32(mtu))[2:])

	prefix := append([]byte{byte(r.cfg.Prefix.Bits()), onLink | autonomous}, words(validLifetime, preferredLifetime, 0)...)
	body = appendOption(body, optionPrefix, append(prefix, r.cfg.Prefix.Addr().AsSlice()...))

	if len(r.cfg.DNS) > 0 {
		servers := words(0, dnsLifetime)[2:]
		for _, a := range r.cfg.DNS {
			servers = append(servers, a.AsSlice()...)
		}
		body = appendOption(body, optionDNS, servers)
	}
	if r.cfg.Search != nil {
		if names := hostconf.Names(r.cfg.Search(), maxSearch); len(names) > 0 {
			body = appendOption(body, optionSearch, append(words(0, dnsLifetime)[2:], names...))
		}
	}
	return r.frame(mac, r.cfg.LinkLocal, to, header.ICMPv6RouterAdvert, body)
}

// Ask returns a question where an address of the guest is (RFC 4861 section 4.3).
func (r *Responder) Ask(target netip.Addr) []byte {
	to := addr(header.SolicitedNodeAddr(tcpip.AddrFrom16(target.As16())))
	body := append(words(0), target.AsSlice()...)
	body = appendOption(body, optionSource, r.cfg.MAC[:])
	return r.frame(multicastMAC(to), r.cfg.LinkLocal, to, header.ICMPv6NeighborSolicit, body)
}

// frame returns the frame to dst at mac, whose ICMPv6 message has body behind type, code and checksum.
func (r *Responder) frame(mac [6]byte, src, dst netip.Addr, kind header.ICMPv6Type, body []byte) []byte {
	b := make([]byte, etherLen+ipLen+header.ICMPv6HeaderSize+len(body))
	header.Ethernet(b).Encode(&header.EthernetFields{
		SrcAddr: tcpip.LinkAddress(r.cfg.MAC[:]), DstAddr: tcpip.LinkAddress(mac[:]), Type: header.IPv6ProtocolNumber,
	})
	from, to := tcpip.AddrFrom16(src.As16()), tcpip.AddrFrom16(dst.As16())
	icmp := header.ICMPv6(b[etherLen+ipLen:])
	header.IPv6(b[etherLen:]).Encode(&header.IPv6Fields{
		PayloadLength: uint16(len(icmp)), TransportProtocol: header.ICMPv6ProtocolNumber, HopLimit: hopLimit,
		SrcAddr: from, DstAddr: to,
	})
	icmp.SetType(kind)
	copy(icmp[header.ICMPv6HeaderSize:], body)
	icmp.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: icmp, Src: from, Dst: to}))
	return b
}

// appendOption appends an option, filled up to whole units of 8 bytes (RFC 4861 section 4.6).
func appendOption(b []byte, kind byte, body []byte) []byte {
	const unit = 8
	units := (2 + len(body) + unit - 1) / unit
	b = append(append(b, kind, byte(units)), body...)
	return append(b, make([]byte, units*unit-2-len(body))...)
}

// words are 32 bits each, as they are sent.
func words(values ...uint32) (b []byte) {
	for _, v := range values {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

func addr(a tcpip.Address) netip.Addr { return netip.AddrFrom16(a.As16()) }

// multicastMAC is where frames for a multicast address go (RFC 2464 section 7).
func multicastMAC(a netip.Addr) [6]byte {
	b := a.As16()
	return [6]byte{0x33, 0x33, b[12], b[13], b[14], b[15]}
}
