package dhcp4

import (
	"bytes"
	"encoding/binary"
	"math"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

const (
	// headerLen is the length in bytes of the fixed part of a message, up to the magic cookie (RFC 2131 section 2).
	headerLen = 236
	// leastMessage is what every client must be able to take, as an IP packet (RFC 2131 section 2).
	leastMessage = 576
	// bootpMessage is what a BOOTP client takes, without IP and UDP (RFC 951 section 3).
	bootpMessage = 300
	// overhead is what IP and UDP put in front of a message.
	overhead = 20 + 8
	// defaultMTU bounds answers when nothing is configured, as they are never fragmented.
	defaultMTU = 1500
)

// Destination is where an answer goes (RFC 2131 section 4.1). Its UDP port is 68.
type Destination struct {
	IP  netip.Addr
	MAC [6]byte
}

// Server answers by its configuration.
type Server struct {
	cfg    Config
	common dhcpv4.Options // what every answer but a refusal carries; read only
}

// New returns a Server for cfg, or an error that lists all that is wrong with it.
func New(cfg Config) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg.DNS = slices.Clone(cfg.DNS)
	return &Server{cfg: cfg, common: commonOptions(&cfg)}, nil
}

// commonOptions builds the options that describe the network.
func commonOptions(c *Config) dhcpv4.Options {
	mask := net.CIDRMask(c.Prefix.Bits(), 32)
	o := dhcpv4.OptionsFromList(
		dhcpv4.OptSubnetMask(mask),
		dhcpv4.OptBroadcastAddress(broadcast(c.Prefix)),
	)
	if c.Router.IsValid() {
		o.Update(dhcpv4.OptRouter(c.Router.AsSlice()))
	}
	if len(c.DNS) > 0 {
		var servers []net.IP
		for _, a := range c.DNS {
			servers = append(servers, a.AsSlice())
		}
		o.Update(dhcpv4.OptDNS(servers...))
	}
	if c.MTU != 0 {
		o.Update(dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, binary.BigEndian.AppendUint16(nil, uint16(c.MTU))))
	}
	if c.Hostname != "" {
		o.Update(dhcpv4.OptHostName(c.Hostname))
	}
	if c.Domain != "" {
		o.Update(dhcpv4.OptDomainName(c.Domain))
	}
	return o
}

// broadcast returns the last address of p.
func broadcast(p netip.Prefix) net.IP {
	a := p.Masked().Addr().As4()
	last := binary.BigEndian.Uint32(a[:]) | uint32(uint64(math.MaxUint32)>>p.Bits())
	return binary.BigEndian.AppendUint32(nil, last)
}

// Answer returns the answer to request, the payload of a datagram that the guest cannot change meanwhile, and where it
// goes. ok is false if there is nothing to say: the request is malformed, for another server, or needs no answer.
func (s *Server) Answer(request []byte) (reply []byte, to Destination, ok bool) {
	m, ok := parse(request)
	if !ok {
		return nil, Destination{}, false
	}
	answer := s.decide(m)
	if answer == nil {
		return nil, Destination{}, false
	}
	return s.fit(answer, m), destination(answer, m), true
}

// parse returns the request in b, if it is one that can come from the guest's own link. It is lenient where real clients
// are sloppy: the end option may be missing, and a BOOTP client may leave the vendor area without a magic cookie.
func parse(b []byte) (*dhcpv4.DHCPv4, bool) {
	if len(b) < headerLen {
		return nil, false
	}
	end := dhcpv4.OptionEnd.Code()
	cookie := []byte{99, 130, 83, 99} // RFC 2131 section 3
	whole := append(bytes.Clone(b), end)
	if !bytes.HasPrefix(b[headerLen:], cookie) {
		whole = append(append(bytes.Clone(b[:headerLen]), cookie...), end)
	}
	m, err := dhcpv4.FromBytes(whole)
	if err != nil {
		return nil, false
	}
	return m, m.OpCode == dhcpv4.OpcodeBootRequest && isStation(m) && isZero(m.GatewayIPAddr)
}

// isStation tells whether the client's hardware address is that of one Ethernet station.
func isStation(m *dhcpv4.DHCPv4) bool {
	mac := m.ClientHWAddr
	return m.HWType == iana.HWTypeEthernet && len(mac) == 6 && mac[0]&1 == 0 && !bytes.Equal(mac, make([]byte, 6))
}

// isZero tells whether an address field was left empty.
func isZero(ip net.IP) bool {
	return len(ip) == 0 || ip.IsUnspecified()
}

// decide returns the answer to m, nil for none (RFC 2131 section 4.3).
func (s *Server) decide(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	if !m.Options.Has(dhcpv4.OptionDHCPMessageType) {
		return s.bootp(m)
	}
	if m.Options.Has(dhcpv4.OptionServerIdentifier) && !s.isServer(m.Options.Get(dhcpv4.OptionServerIdentifier)) {
		return nil // the client speaks to another server
	}
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		if m.Options.Has(dhcpv4.OptionRapidCommit) { // RFC 4039
			a := s.lease(m, dhcpv4.MessageTypeAck)
			a.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionRapidCommit, nil))
			return a
		}
		return s.lease(m, dhcpv4.MessageTypeOffer)
	case dhcpv4.MessageTypeRequest:
		if !s.wantsItsAddress(m) {
			return s.refuse(m)
		}
		return s.lease(m, dhcpv4.MessageTypeAck)
	case dhcpv4.MessageTypeInform:
		return s.inform(m)
	}
	return nil // RELEASE and DECLINE: the address is the guest's whatever it thinks of it
}

// isServer tells whether a server identifier option names this server.
func (s *Server) isServer(id []byte) bool {
	a, ok := netip.AddrFromSlice(id)
	return ok && a == s.cfg.Server
}

// wantsItsAddress tells whether a REQUEST is for the guest's address: by option when the client selects an offer or
// reboots, by ciaddr when it renews (RFC 2131 section 4.3.2).
func (s *Server) wantsItsAddress(m *dhcpv4.DHCPv4) bool {
	want := m.Options.Get(dhcpv4.OptionRequestedIPAddress)
	if want == nil {
		want = m.ClientIPAddr
	}
	return bytes.Equal(want, s.cfg.Guest.AsSlice())
}

// blank returns an answer to m that says nothing yet.
func (s *Server) blank(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	return &dhcpv4.DHCPv4{
		OpCode:        dhcpv4.OpcodeBootReply,
		HWType:        m.HWType,
		TransactionID: m.TransactionID,
		Flags:         m.Flags,
		ClientHWAddr:  m.ClientHWAddr,
		Options:       dhcpv4.Options{},
	}
}

// typed returns a DHCP answer to m of type t, without configuration.
func (s *Server) typed(m *dhcpv4.DHCPv4, t dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	a := s.blank(m)
	a.UpdateOption(dhcpv4.OptMessageType(t))
	a.UpdateOption(dhcpv4.OptServerIdentifier(s.cfg.Server.AsSlice()))
	if id := m.Options.Get(dhcpv4.OptionClientIdentifier); id != nil { // RFC 6842
		a.UpdateOption(dhcpv4.OptClientIdentifier(id))
	}
	return a
}

// describe adds the network's configuration to a.
func (s *Server) describe(a *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	for code, value := range s.common {
		a.Options[code] = value
	}
	return a
}

// lease returns an answer that gives the guest its address.
func (s *Server) lease(m *dhcpv4.DHCPv4, t dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	a := s.describe(s.typed(m, t))
	a.YourIPAddr = s.cfg.Guest.AsSlice()
	if t == dhcpv4.MessageTypeAck {
		a.ClientIPAddr = m.ClientIPAddr
	}
	a.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionIPAddressLeaseTime, leaseTime(s.cfg.LeaseTime)))
	return a
}

// leaseTime encodes d in seconds; all ones is for ever (RFC 2131 section 3.3).
func leaseTime(d time.Duration) []byte {
	seconds := uint32(math.MaxUint32)
	if n := int64(d / time.Second); n > 0 && n < math.MaxUint32 {
		seconds = uint32(n)
	}
	return binary.BigEndian.AppendUint32(nil, seconds)
}

// inform answers a client that has its address already (RFC 2131 section 4.3.5).
func (s *Server) inform(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	a := s.describe(s.typed(m, dhcpv4.MessageTypeAck))
	a.ClientIPAddr = m.ClientIPAddr
	return a
}

// refuse returns a NAK: the client must begin anew.
func (s *Server) refuse(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	a := s.typed(m, dhcpv4.MessageTypeNak)
	a.UpdateOption(dhcpv4.OptMessage("the address of this guest is " + s.cfg.Guest.String()))
	return a
}

// bootp answers a client that does not know DHCP. Its address never expires (RFC 1534 section 2).
func (s *Server) bootp(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	a := s.describe(s.blank(m))
	a.YourIPAddr = s.cfg.Guest.AsSlice()
	return a
}

// fit encodes a, without what the client has no room for: names first, since a guest works without them.
func (s *Server) fit(a, m *dhcpv4.DHCPv4) []byte {
	room := s.room(m)
	b := a.ToBytes()
	droppable := []dhcpv4.OptionCode{
		dhcpv4.OptionClientIdentifier, dhcpv4.OptionDomainName, dhcpv4.OptionHostName, dhcpv4.OptionDomainNameServer,
	}
	for _, code := range droppable {
		if len(b) <= room {
			break
		}
		a.Options.Del(code)
		b = a.ToBytes()
	}
	return b
}

// room returns the length in bytes of the longest message that the client of m takes.
func (s *Server) room(m *dhcpv4.DHCPv4) int {
	if !m.Options.Has(dhcpv4.OptionDHCPMessageType) {
		return bootpMessage
	}
	mtu := defaultMTU
	if s.cfg.MTU != 0 {
		mtu = s.cfg.MTU
	}
	client := leastMessage
	if v := m.Options.Get(dhcpv4.OptionMaximumDHCPMessageSize); len(v) == 2 {
		client = max(client, int(binary.BigEndian.Uint16(v)))
	}
	return max(leastMessage, min(client, mtu)) - overhead
}

// destination returns where answer a to m goes (RFC 2131 section 4.1, without the relay agents).
func destination(a, m *dhcpv4.DHCPv4) Destination {
	everyone := Destination{
		IP:  netip.AddrFrom4([4]byte{255, 255, 255, 255}),
		MAC: [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	}
	client := Destination{MAC: [6]byte(m.ClientHWAddr)}
	switch {
	case a.MessageType() == dhcpv4.MessageTypeNak:
		return everyone
	case !isZero(m.ClientIPAddr):
		client.IP = netip.AddrFrom4([4]byte(m.ClientIPAddr))
	case m.IsBroadcast() || isZero(a.YourIPAddr):
		return everyone
	default:
		client.IP = netip.AddrFrom4([4]byte(a.YourIPAddr))
	}
	return client
}
