package dhcp6

import (
	"bytes"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/insomniacslk/dhcp/rfc1035label"
)

// Ports of client and server (RFC 8415 section 7.2).
const (
	ClientPort = 546
	ServerPort = 547
)

// Servers is the address that a client sends to (RFC 8415 section 7.1).
var Servers = netip.MustParseAddr("ff02::1:2")

// How long the guest may use its address without asking again: it is its own anyway.
const (
	preferredLifetime = 12 * time.Hour
	validLifetime     = 24 * time.Hour
	renewAfter        = preferredLifetime / 2     // T1, as section 14.2 recommends
	rebindAfter       = preferredLifetime / 5 * 4 // T2
)

// Config is what the guest is told.
type Config struct {
	MAC    [6]byte      // of the server, which is known by it
	Guest  netip.Addr   // the guest's address
	Prefix netip.Prefix // the guest's network
	DNS    []netip.Addr // name servers
	Domain string       // in which names are looked up; empty is not told
}

// Server answers by its configuration.
type Server struct {
	cfg  Config
	duid dhcpv6.DUID
}

// New returns a Server.
func New(cfg Config) *Server {
	return &Server{cfg: cfg, duid: &dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: cfg.MAC[:]}}
}

// Answer looks at one message of the guest, whole, without the UDP header, which cannot change meanwhile. reply is the
// message to send back, nil for none. ok tells that the message is well-formed.
func (s *Server) Answer(message []byte) (reply []byte, ok bool) {
	m, err := dhcpv6.MessageFromBytes(message)
	if err != nil {
		return nil, false
	}
	forUs, ok := s.check(m)
	if !forUs || !ok {
		return nil, ok
	}
	r := &dhcpv6.Message{MessageType: dhcpv6.MessageTypeReply, TransactionID: m.TransactionID}
	if id := m.Options.ClientID(); id != nil {
		r.AddOption(dhcpv6.OptClientID(id))
	}
	r.AddOption(dhcpv6.OptServerID(s.duid))
	switch m.MessageType {
	case dhcpv6.MessageTypeSolicit:
		if m.GetOneOption(dhcpv6.OptionRapidCommit) != nil {
			r.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit})
		} else {
			r.MessageType = dhcpv6.MessageTypeAdvertise
		}
		s.addLeases(m, r)
	case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRebind:
		s.addLeases(m, r)
	case dhcpv6.MessageTypeConfirm:
		status, known := s.confirm(m)
		if !known {
			return nil, true
		}
		r.AddOption(status)
	case dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline:
		r.AddOption(&dhcpv6.OptStatusCode{StatusCode: iana.StatusSuccess}) // and the next one who asks gets it again
	}
	s.addNames(r)
	return r.ToBytes(), true
}

// check tells whether a message says whom it is from and for as its kind must (RFC 8415 section 16), and whether it is for us.
func (s *Server) check(m *dhcpv6.Message) (forUs, ok bool) {
	client, server := m.Options.ClientID(), m.Options.ServerID()
	switch m.MessageType {
	case dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeConfirm, dhcpv6.MessageTypeRebind:
		ok = client != nil && server == nil
		return ok, ok
	case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline:
		ok = client != nil && server != nil
		return ok && s.isUs(server), ok
	case dhcpv6.MessageTypeInformationRequest:
		return server == nil || s.isUs(server), true
	}
	return false, false
}

func (s *Server) isUs(id dhcpv6.DUID) bool { return bytes.Equal(id.ToBytes(), s.duid.ToBytes()) }

// addLeases answers what m asks for. There is one address; for more, and for temporary ones and prefixes, there is nothing.
func (s *Server) addLeases(m, r *dhcpv6.Message) {
	for i, asked := range m.Options.IANA() {
		lease := &dhcpv6.OptIANA{IaId: asked.IaId}
		if i == 0 {
			lease.T1, lease.T2 = renewAfter, rebindAfter
			lease.Options.Add(&dhcpv6.OptIAAddress{
				IPv6Addr: s.cfg.Guest.AsSlice(), PreferredLifetime: preferredLifetime, ValidLifetime: validLifetime,
			})
			s.withdraw(asked, lease)
		} else {
			lease.Options.Add(&dhcpv6.OptStatusCode{StatusCode: iana.StatusNoAddrsAvail})
		}
		r.AddOption(lease)
	}
	for _, asked := range m.Options.IATA() {
		none := &dhcpv6.OptIATA{IaId: asked.IaId}
		none.Options.Add(&dhcpv6.OptStatusCode{StatusCode: iana.StatusNoAddrsAvail})
		r.AddOption(none)
	}
	for _, asked := range m.Options.IAPD() {
		none := &dhcpv6.OptIAPD{IaId: asked.IaId}
		none.Options.Add(&dhcpv6.OptStatusCode{StatusCode: iana.StatusNoPrefixAvail})
		r.AddOption(none)
	}
}

// withdraw tells the guest that other addresses that it has named are not its own (RFC 8415 section 18.3.4): it may have been
// another guest before.
func (s *Server) withdraw(asked, lease *dhcpv6.OptIANA) {
	const most = 4 // nobody has more
	for i, a := range asked.Options.Addresses() {
		if i < most && !bytes.Equal(a.IPv6Addr, s.cfg.Guest.AsSlice()) {
			lease.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: a.IPv6Addr})
		}
	}
}

// confirm tells whether the addresses that m names are good on this network; !known if it names none.
func (s *Server) confirm(m *dhcpv6.Message) (status *dhcpv6.OptStatusCode, known bool) {
	status = &dhcpv6.OptStatusCode{StatusCode: iana.StatusSuccess}
	for _, asked := range m.Options.IANA() {
		for _, a := range asked.Options.Addresses() {
			known = true
			if addr, _ := netip.AddrFromSlice(a.IPv6Addr); !s.cfg.Prefix.Contains(addr) {
				status.StatusCode = iana.StatusNotOnLink
			}
		}
	}
	return status, known
}

// addNames tells of name servers (RFC 3646).
func (s *Server) addNames(r *dhcpv6.Message) {
	var servers []net.IP
	for _, a := range s.cfg.DNS {
		servers = append(servers, a.AsSlice())
	}
	if len(servers) > 0 {
		r.AddOption(dhcpv6.OptDNS(servers...))
	}
	if s.cfg.Domain != "" {
		r.AddOption(dhcpv6.OptDomainSearchList(&rfc1035label.Labels{Labels: []string{s.cfg.Domain}}))
	}
}
