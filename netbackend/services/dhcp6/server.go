package dhcp6

import (
	"bytes"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/vringnet/vring/netbackend/services/hostconf"
	"github.com/vringnet/vring/netbackend/services/lease"
)

// Ports of client and server (RFC 8415 section 7.2).
const (
	ClientPort = 546
	ServerPort = 547
)

// Servers is the address that a client sends to (RFC 8415 section 7.1).
var Servers = netip.MustParseAddr("ff02::1:2")

// How long a host may use an address without asking again, unless it is one of the pool, for which lease.PoolTime is the valid
// lifetime.
const (
	preferredLifetime = 12 * time.Hour
	validLifetime     = 24 * time.Hour
)

// Bounds of what a client says that is said back.
const (
	maxDUID         = 2 + 128 // bytes of an identifier (RFC 8415 section 11.1)
	maxAssociations = 8       // of each kind; hosts have one
)

// Config is what the guest's hosts are told.
type Config struct {
	MAC    [6]byte         // of the server, which is known by it
	Guest  netip.Addr      // the guest's address
	Prefix netip.Prefix    // the guest's network
	DNS    []netip.Addr    // name servers
	Search func() []string // the domains in which names are looked up; nil says nothing about it
	More   hostconf.Config // what else hosts are told. Its leases are the Book's
	Book   *lease.Book     // has the address of each host; nil gives Guest to all of them
}

// Server answers by its configuration.
type Server struct {
	cfg  Config
	duid dhcpv6.DUID
}

// Answer is what is to be done about a message.
type Answer struct {
	Message []byte // to send back, nil for none
	// Ask is an address that the link is to be asked for, if valid: the client asks again.
	Ask netip.Addr
	// Declined is an address that another host uses, as the client says, and Given one that the client has from now on.
	Declined, Given netip.Addr
}

// exchange is one message and what comes of it.
type exchange struct {
	client lease.Client
	m, r   *dhcpv6.Message
	answer Answer
	silent bool // nothing is answered: the client asks again
}

// New returns a Server.
func New(cfg Config) *Server {
	if cfg.Book == nil {
		cfg.Book = lease.Single(cfg.Guest)
	}
	return &Server{cfg: cfg, duid: &dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: cfg.MAC[:]}}
}

// Answer looks at one message of a host, whole, without the UDP header, which cannot change meanwhile. mac is the host's, and
// now a monotonic clock in nanoseconds. ok tells that the message is well-formed.
func (s *Server) Answer(now int64, mac [6]byte, message []byte) (answer Answer, ok bool) {
	m, err := dhcpv6.MessageFromBytes(message)
	if err != nil {
		return Answer{}, false
	}
	forUs, ok := s.check(m)
	if !forUs || !ok {
		return Answer{}, ok
	}
	x := exchange{m: m, r: &dhcpv6.Message{MessageType: dhcpv6.MessageTypeReply, TransactionID: m.TransactionID}}
	x.client.MAC = mac
	if id := m.Options.ClientID(); id != nil {
		x.r.AddOption(dhcpv6.OptClientID(id))
		x.client.ID = s.cfg.Book.ID(id.ToBytes())
	}
	x.r.AddOption(dhcpv6.OptServerID(s.duid))
	s.decide(now, &x)
	if !x.silent {
		x.answer.Message = s.addNames(x.r, m)
	}
	return x.answer, true
}

// decide puts into the answer what the message asks for.
func (s *Server) decide(now int64, x *exchange) {
	switch x.m.MessageType {
	case dhcpv6.MessageTypeSolicit:
		if x.m.GetOneOption(dhcpv6.OptionRapidCommit) != nil {
			x.r.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionRapidCommit})
		} else {
			x.r.MessageType = dhcpv6.MessageTypeAdvertise
		}
		s.addLeases(now, x)
	case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRebind:
		s.addLeases(now, x)
	case dhcpv6.MessageTypeConfirm:
		status, known := s.confirm(x.m)
		if !known {
			x.silent = true
			return
		}
		x.r.AddOption(status)
	case dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline:
		s.giveBack(now, x)
		x.r.AddOption(&dhcpv6.OptStatusCode{StatusCode: iana.StatusSuccess})
	}
}

// giveBack takes note of addresses that the client does not need, or cannot use.
func (s *Server) giveBack(now int64, x *exchange) {
	for _, ia := range x.m.Options.IANA() {
		for _, a := range ia.Options.Addresses() {
			addr, _ := netip.AddrFromSlice(a.IPv6Addr)
			if x.m.MessageType == dhcpv6.MessageTypeRelease {
				s.cfg.Book.Release(x.client, addr)
			} else if s.cfg.Book.Decline(now, x.client, addr) {
				x.answer.Declined = addr
			}
		}
	}
}

// check tells whether a message says whom it is from and for as its kind must (RFC 8415 section 16), and whether it is for us.
func (s *Server) check(m *dhcpv6.Message) (forUs, ok bool) {
	client, server := m.Options.ClientID(), m.Options.ServerID()
	if client != nil && len(client.ToBytes()) > maxDUID {
		return false, false
	}
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

// addLeases answers what x asks for. A host has one address; for more, and for temporary ones and prefixes, there is nothing.
func (s *Server) addLeases(now int64, x *exchange) {
	for i, asked := range first(x.m.Options.IANA()) {
		given := &dhcpv6.OptIANA{IaId: asked.IaId}
		if i > 0 || !s.addLease(now, x, asked, given) {
			given.Options.Add(&dhcpv6.OptStatusCode{StatusCode: iana.StatusNoAddrsAvail})
		}
		x.r.AddOption(given)
	}
	for _, asked := range first(x.m.Options.IATA()) {
		none := &dhcpv6.OptIATA{IaId: asked.IaId}
		none.Options.Add(&dhcpv6.OptStatusCode{StatusCode: iana.StatusNoAddrsAvail})
		x.r.AddOption(none)
	}
	for _, asked := range first(x.m.Options.IAPD()) {
		none := &dhcpv6.OptIAPD{IaId: asked.IaId}
		none.Options.Add(&dhcpv6.OptStatusCode{StatusCode: iana.StatusNoPrefixAvail})
		x.r.AddOption(none)
	}
}

// first are those of list that are answered, so that an answer passes every link however much was asked for.
func first[T any](list []T) []T { return list[:min(len(list), maxAssociations)] }

// addLease puts the host's address into given, and reports whether there is one.
func (s *Server) addLease(now int64, x *exchange, asked, given *dhcpv6.OptIANA) bool {
	var want netip.Addr
	if a := asked.Options.OneAddress(); a != nil {
		want, _ = netip.AddrFromSlice(a.IPv6Addr)
	}
	take := s.cfg.Book.Take
	if x.r.MessageType == dhcpv6.MessageTypeAdvertise {
		take = s.cfg.Book.Offer
	}
	addr, outcome := take(now, x.client, want)
	switch outcome {
	case lease.None:
		return false
	case lease.Ask:
		x.answer.Ask = s.cfg.Guest
		fallthrough
	case lease.Wait:
		x.silent = true
		return false
	}
	if x.r.MessageType == dhcpv6.MessageTypeReply {
		x.answer.Given = addr
	}
	preferred, valid := preferredLifetime, validLifetime
	if !s.cfg.Book.Permanent(addr) {
		preferred, valid = lease.PoolTime/2, lease.PoolTime
	}
	given.T1, given.T2 = preferred/2, preferred/5*4 // as RFC 8415 section 14.2 recommends
	given.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: addr.AsSlice(), PreferredLifetime: preferred, ValidLifetime: valid})
	withdraw(asked, given, addr)
	return true
}

// withdraw tells the host that other addresses than addr that it has named are not its own (RFC 8415 section 18.3.4): it may
// have been in another network before.
func withdraw(asked, given *dhcpv6.OptIANA, addr netip.Addr) {
	const most = 4 // nobody has more
	for i, a := range asked.Options.Addresses() {
		if i < most && !bytes.Equal(a.IPv6Addr, addr.AsSlice()) {
			given.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: a.IPv6Addr})
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
