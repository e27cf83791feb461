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

	"github.com/vringnet/vring/netbackend/services/hostconf"
	"github.com/vringnet/vring/netbackend/services/lease"
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

// Answer is what is to be done about a request.
type Answer struct {
	Message []byte // the payload of the answer, nil for none
	To      Destination
	// Ask is an address that the link is to be asked for, if valid: the client asks again.
	Ask netip.Addr
	// Declined is an address that another host uses, as the client says, and Given one that the client has from now on.
	Declined, Given netip.Addr
}

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
	if cfg.Book == nil {
		cfg.Book = lease.Single(cfg.Guest)
	}
	return &Server{cfg: cfg, common: commonOptions(&cfg)}, nil
}

// commonOptions builds the options that describe the network.
func commonOptions(c *Config) dhcpv4.Options {
	mask := net.CIDRMask(c.Prefix.Bits(), 32)
	o := dhcpv4.OptionsFromList(
		dhcpv4.OptSubnetMask(mask),
		dhcpv4.OptBroadcastAddress(broadcast(c.Prefix)),
	)
	put := func(code dhcpv4.OptionCode, value []byte) {
		if len(value) > 0 {
			o.Update(dhcpv4.OptGeneric(code, value))
		}
	}
	put(dhcpv4.OptionRouter, c.Router.AsSlice())
	put(dhcpv4.OptionDomainNameServer, addresses(c.DNS))
	if c.MTU != 0 {
		put(dhcpv4.OptionInterfaceMTU, binary.BigEndian.AppendUint16(nil, uint16(c.MTU)))
	}
	put(dhcpv4.OptionDomainName, []byte(c.Domain))
	put(dhcpv4.OptionNTPServers, addresses(c.More.NTPOf(true)))
	put(dhcpv4.OptionClasslessStaticRoute, hostconf.ClasslessRoutes(c.routes(), c.Router))
	return o
}

// routes are those that hosts are told of. A router beyond the network is on the link by one of its own (RFC 3442).
func (c *Config) routes() []hostconf.Route {
	if !c.Router.IsValid() || c.Prefix.Contains(c.Router) {
		return c.More.Routes
	}
	onLink := hostconf.Route{Network: netip.PrefixFrom(c.Router, c.Router.BitLen()), Router: netip.IPv4Unspecified()}
	return append([]hostconf.Route{onLink}, c.More.Routes...)
}

// addresses are addrs one behind the other.
func addresses(addrs []netip.Addr) (b []byte) {
	for _, a := range addrs {
		b = append(b, a.AsSlice()...)
	}
	return b
}

// broadcast returns the last address of p.
func broadcast(p netip.Prefix) net.IP {
	a := p.Masked().Addr().As4()
	last := binary.BigEndian.Uint32(a[:]) | uint32(uint64(math.MaxUint32)>>p.Bits())
	return binary.BigEndian.AppendUint32(nil, last)
}

// Answer returns the answer at now, of a monotonic clock in nanoseconds, to request, the payload of a datagram that the guest
// cannot change meanwhile. ok is false if there is nothing to do: the request is malformed, for another server, or needs no
// answer.
func (s *Server) Answer(now int64, request []byte) (answer Answer, ok bool) {
	m, ok := parse(request)
	if !ok {
		return Answer{}, false
	}
	r := s.decide(now, m, &answer)
	if r == nil {
		return answer, answer.Ask.IsValid() || answer.Declined.IsValid()
	}
	s.add(r, m)
	answer.Message, answer.To = s.fit(r, m), destination(r, m)
	return answer, true
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
func (s *Server) decide(now int64, m *dhcpv4.DHCPv4, answer *Answer) *dhcpv4.DHCPv4 {
	if !m.Options.Has(dhcpv4.OptionDHCPMessageType) {
		return s.bootp(now, m, answer)
	}
	if m.Options.Has(dhcpv4.OptionServerIdentifier) && !s.isServer(m.Options.Get(dhcpv4.OptionServerIdentifier)) {
		return nil // the client speaks to another server
	}
	client, want := s.client(m), wanted(m)
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		return s.discover(now, m, answer)
	case dhcpv4.MessageTypeRequest:
		return s.request(now, m, answer)
	case dhcpv4.MessageTypeInform:
		return s.inform(m)
	case dhcpv4.MessageTypeDecline:
		if s.cfg.Book.Decline(now, client, want) {
			answer.Declined = want
		}
	case dhcpv4.MessageTypeRelease:
		s.cfg.Book.Release(client, want)
	}
	return nil
}

// client returns who sent m.
func (s *Server) client(m *dhcpv4.DHCPv4) lease.Client {
	c := lease.Client{MAC: [6]byte(m.ClientHWAddr)}
	if id := m.Options.Get(dhcpv4.OptionClientIdentifier); id != nil {
		c.ID = s.cfg.Book.ID(id)
	}
	return c
}

// wanted returns the address that m is about: by option when the client selects an offer or reboots, by ciaddr when it renews
// or releases (RFC 2131 section 4.3.2). It is the zero Addr if there is none.
func wanted(m *dhcpv4.DHCPv4) netip.Addr {
	want := m.Options.Get(dhcpv4.OptionRequestedIPAddress)
	if want == nil {
		want = m.ClientIPAddr
	}
	a, _ := netip.AddrFromSlice(want)
	return a
}

// discover offers an address, or gives it at once (RFC 4039).
func (s *Server) discover(now int64, m *dhcpv4.DHCPv4, answer *Answer) *dhcpv4.DHCPv4 {
	if !m.Options.Has(dhcpv4.OptionRapidCommit) {
		a, outcome := s.cfg.Book.Offer(now, s.client(m), wanted(m))
		if outcome != lease.Given {
			return s.without(outcome, answer)
		}
		return s.lease(m, dhcpv4.MessageTypeOffer, a)
	}
	a, outcome := s.cfg.Book.Take(now, s.client(m), wanted(m))
	if outcome != lease.Given {
		return s.without(outcome, answer)
	}
	s.given(m, a, answer)
	r := s.lease(m, dhcpv4.MessageTypeAck, a)
	r.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionRapidCommit, nil))
	return r
}

// request gives the address that the client asks for, if it is the client's.
func (s *Server) request(now int64, m *dhcpv4.DHCPv4, answer *Answer) *dhcpv4.DHCPv4 {
	want := wanted(m)
	a, outcome := s.cfg.Book.Offer(now, s.client(m), want)
	if outcome == lease.Given && a == want {
		a, outcome = s.cfg.Book.Take(now, s.client(m), want)
	}
	switch {
	case outcome != lease.Given:
		return s.without(outcome, answer)
	case a != want:
		return s.refuse(m, a)
	}
	s.given(m, a, answer)
	return s.lease(m, dhcpv4.MessageTypeAck, a)
}

// given takes note that the client has an address, and of how it calls itself (RFC 2132 section 3.14).
func (s *Server) given(m *dhcpv4.DHCPv4, a netip.Addr, answer *Answer) {
	answer.Given = a
	s.cfg.Book.SetName([6]byte(m.ClientHWAddr), m.HostName())
}

// without answers a client for which there is no address, at least not yet: by nothing, so that it asks again.
func (s *Server) without(outcome lease.Outcome, answer *Answer) *dhcpv4.DHCPv4 {
	if outcome == lease.Ask {
		answer.Ask = s.cfg.Guest
	}
	return nil
}

// isServer tells whether a server identifier option names this server.
func (s *Server) isServer(id []byte) bool {
	a, ok := netip.AddrFromSlice(id)
	return ok && a == s.cfg.Server
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

// lease returns an answer that gives the client the address a.
func (s *Server) lease(m *dhcpv4.DHCPv4, t dhcpv4.MessageType, a netip.Addr) *dhcpv4.DHCPv4 {
	r := s.describe(s.typed(m, t))
	s.address(r, a)
	if t == dhcpv4.MessageTypeAck {
		r.ClientIPAddr = m.ClientIPAddr
	}
	d := s.cfg.LeaseTime
	if !s.cfg.Book.Permanent(a) {
		d = lease.PoolTime
	}
	r.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionIPAddressLeaseTime, leaseTime(d)))
	return r
}

// address tells a host its address, and its name if it has one.
func (s *Server) address(r *dhcpv4.DHCPv4, a netip.Addr) {
	r.YourIPAddr = a.AsSlice()
	if s.cfg.Hostname != "" && a == s.cfg.Guest {
		r.UpdateOption(dhcpv4.OptHostName(s.cfg.Hostname))
	}
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

// refuse returns a NAK to a client whose address is a: it must begin anew.
func (s *Server) refuse(m *dhcpv4.DHCPv4, a netip.Addr) *dhcpv4.DHCPv4 {
	r := s.typed(m, dhcpv4.MessageTypeNak)
	r.UpdateOption(dhcpv4.OptMessage("the address of this guest is " + a.String()))
	return r
}

// bootp answers a client that does not know DHCP. Its address never expires (RFC 1534 section 2), which one of the pool does.
func (s *Server) bootp(now int64, m *dhcpv4.DHCPv4, answer *Answer) *dhcpv4.DHCPv4 {
	a, outcome := s.cfg.Book.Take(now, s.client(m), netip.Addr{})
	if outcome != lease.Given || !s.cfg.Book.Permanent(a) {
		return s.without(outcome, answer)
	}
	s.given(m, a, answer)
	r := s.describe(s.blank(m))
	s.address(r, a)
	return r
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
