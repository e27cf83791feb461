package arp

import (
	"net/netip"
	"slices"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// minFrame is the shortest Ethernet frame without its check sequence (IEEE 802.3 clause 3.2.8). Some drivers drop
// shorter ones.
const minFrame = 60

// Responder holds the addresses to answer for.
type Responder struct {
	mac     [6]byte
	addrs   []netip.Addr
	aliases []netip.Addr
	guest   netip.Addr // if valid, all other addresses are answered for
}

// New returns a Responder that says that each of addrs, which are IPv4, is at mac.
func New(mac [6]byte, addrs ...netip.Addr) *Responder {
	return &Responder{mac: mac, addrs: slices.Clone(addrs)}
}

// AnswerForAllBut makes r answer for all addresses but the guest's.
func (r *Responder) AnswerForAllBut(guest netip.Addr) { r.guest = guest }

// SetAliases lets r answer for some addresses, too, in the place of those that it was told before. It keeps them. Those of IPv6 do not
// matter.
func (r *Responder) SetAliases(addrs []netip.Addr) { r.aliases = addrs }

// isOurs reports whether a is one of the addresses that nobody else has.
func (r *Responder) isOurs(a netip.Addr) bool {
	return slices.Contains(r.addrs, a) || slices.Contains(r.aliases, a)
}

// answersFor reports whether an address is answered for.
func (r *Responder) answersFor(a netip.Addr) bool {
	return r.isOurs(a) || r.guest.IsValid() && a != r.guest && !a.IsUnspecified()
}

// Sender is who an ARP packet says that it comes from.
type Sender struct {
	MAC [6]byte    // unicast
	IP  netip.Addr // IPv4; the zero Addr if the packet does not tell, as an address probe does not (RFC 5227)
}

// Answer looks at frame, a whole Ethernet frame that the guest cannot change meanwhile. reply is the frame to send to
// the guest, nil for none. ok tells that frame is a well-formed ARP packet and sender its sender, answered or not.
//
// Announcements (a request for the sender's own address, RFC 5227 section 2.3) get no reply even if they claim one of
// our addresses, and never name a sender with one of our addresses.
func (r *Responder) Answer(frame []byte) (reply []byte, sender Sender, ok bool) {
	request, ok := parse(frame)
	if !ok {
		return nil, Sender{}, false
	}
	sender, ok = r.sender(request)
	if !ok {
		return nil, Sender{}, false
	}
	target := netip.AddrFrom4([4]byte(request.ProtocolAddressTarget()))
	if request.Op() != header.ARPRequest || target == sender.IP || !r.answersFor(target) {
		return nil, sender, true
	}
	return r.reply(request), sender, true
}

// parse returns the ARP packet for IPv4 over Ethernet in frame.
func parse(frame []byte) (header.ARP, bool) {
	if len(frame) < header.EthernetMinimumSize+header.ARPSize {
		return nil, false
	}
	if header.Ethernet(frame).Type() != header.ARPProtocolNumber {
		return nil, false
	}
	packet := header.ARP(frame[header.EthernetMinimumSize:])
	return packet, packet.IsValid()
}

// sender returns who sent the packet; !ok if its hardware address cannot be a station's, or its protocol address is
// one of ours: then the guest is confused or lies, and nothing that it says is of use.
func (r *Responder) sender(packet header.ARP) (s Sender, ok bool) {
	s.MAC = [6]byte(packet.HardwareAddressSender())
	if s.MAC == [6]byte{} || s.MAC[0]&1 != 0 || s.MAC == r.mac {
		return Sender{}, false
	}
	ip := netip.AddrFrom4([4]byte(packet.ProtocolAddressSender()))
	if r.isOurs(ip) {
		return Sender{}, false
	}
	if !ip.IsUnspecified() {
		s.IP = ip
	}
	return s, true
}

// reply builds the padded frame that tells the sender of request where its target is.
func (r *Responder) reply(request header.ARP) []byte {
	frame := make([]byte, minFrame)
	header.Ethernet(frame).Encode(&header.EthernetFields{
		SrcAddr: tcpip.LinkAddress(r.mac[:]),
		DstAddr: tcpip.LinkAddress(request.HardwareAddressSender()),
		Type:    header.ARPProtocolNumber,
	})
	reply := header.ARP(frame[header.EthernetMinimumSize:])
	reply.SetIPv4OverEthernet()
	reply.SetOp(header.ARPReply)
	copy(reply.HardwareAddressSender(), r.mac[:])
	copy(reply.ProtocolAddressSender(), request.ProtocolAddressTarget())
	copy(reply.HardwareAddressTarget(), request.HardwareAddressSender())
	copy(reply.ProtocolAddressTarget(), request.ProtocolAddressSender())
	return frame
}
