package dhcp

import (
	"log/slog"
	"net/netip"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/fragments"
	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/link"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/services/dhcp4"
	"github.com/vringnet/vring/netbackend/services/dhcp6"
	"github.com/vringnet/vring/netbackend/services/lease"
)

// Leases are the addresses of a guest's hosts. The guest's queue pairs share them.
type Leases struct {
	V4, V6 *lease.Book // v6 is nil if the guest has no network of IPv6
}

// free lets another guest have the promised addresses.
func (l *Leases) free() {
	l.V4.Free()
	if l.V6 != nil {
		l.V6.Free()
	}
}

// FreeLeases forgets who has which address.
func (e *Server) FreeLeases() { e.leases.free() }

// leased takes note of what came of a message of DHCP, of either version: the host that has sent it has an address, found it in
// use, or is to wait until the link was asked for one. (An answer may go to everybody, and its destination tells nothing.)
func (e *Server) leased(t *shard.Turn, given, declined, ask netip.Addr) {
	if given.IsValid() {
		a := ipaddr.From(given)
		t.LearnAddress(&a, t.From)
	}
	if declined.IsValid() {
		t.Worker.Raise(netbackend.Notice{
			Level: int(slog.LevelWarn), Key: "address", Value: declined.String(),
			Message: "a host of the guest has declined its address: another one behind the same network card uses it",
		})
	}
	if ask.IsValid() {
		e.link.Ask(t, ipaddr.From(ask))
	}
}

// The services here are rare, so they work on copies and may allocate.

// Server answers the guest's messages of DHCP, in both versions of IP.
type Server struct {
	link        *link.Layer
	fragments   *fragments.Sender
	leases      *Leases // of the guest
	dhcpServer  *dhcp4.Server
	dhcp6Server *dhcp6.Server // nil if the guest has no network of IPv6
	cfg         Config
}

// Config is what a Server takes from the configuration of its guest.
type Config struct{ NoV4, NoV6 bool } // nothing is answered in that version

// SetUp makes that of a queue pair. g are the guest's addresses.
func (e *Server) SetUp(cfg Config, link *link.Layer, fragments *fragments.Sender, g *Leases, dhcpServer *dhcp4.Server, dhcp6Server *dhcp6.Server) {
	*e = Server{cfg: cfg, link: link, fragments: fragments, leases: g, dhcpServer: dhcpServer, dhcp6Server: dhcp6Server}
}

// Handle4 answers a DHCP or BOOTP message. length is that of UDP header and payload.
func (e *Server) Handle4(t *shard.Turn, k *shard.Packet, length int) {
	if e.cfg.NoV4 {
		t.Drop(&t.Counters.Unsupported)
		return
	}
	if !t.Allow(limits.DHCP) {
		return
	}
	message := t.CopyPayload(k, length)
	if message == nil {
		return
	}
	if k.Src.IsUnicast() && t.Nets.Contains(&k.Src) {
		t.LearnAddress(&k.Src, t.From)
	}
	answer, ok := e.dhcpServer.Answer(t.Now, message)
	if !ok {
		return
	}
	e.leased(t, answer.Given, answer.Declined, answer.Ask)
	if answer.Message == nil || len(answer.Message) > t.MTU-netpkt.IPv4Len-netpkt.UDPLen {
		return
	}
	t.Reply(t.UDPFrame(answer.To.MAC, &flowtable.Key{
		Proto: netpkt.UDP, Remote: t.Nets.V4.Gateway, RemotePort: netpkt.DHCPServerPort,
		Guest: ipaddr.From(answer.To.IP), GuestPort: netpkt.DHCPClientPort,
	}, answer.Message))
}

// Handle6 answers a message of DHCPv6. length is that of UDP header and payload.
func (e *Server) Handle6(t *shard.Turn, k *shard.Packet, length int) {
	if e.cfg.NoV6 {
		t.Drop(&t.Counters.Unsupported)
		return
	}
	if !t.Allow(limits.DHCP) {
		return
	}
	message := t.CopyPayload(k, length)
	if message == nil {
		return
	}
	mac := hosts.UnpackMAC(t.Hosts.MAC(t.From))
	answer, ok := e.dhcp6Server.Answer(t.Now, mac, message)
	if !ok {
		t.Drop(&t.Counters.Malformed)
		return
	}
	e.leased(t, answer.Given, answer.Declined, answer.Ask)
	if answer.Message == nil || len(answer.Message) > e.fragments.MaxPayload(&k.Src) {
		return
	}
	t.Reply(t.UDPFrame(mac, &flowtable.Key{
		Proto: netpkt.UDP, Remote: t.Nets.LinkLocal, RemotePort: dhcp6.ServerPort, Guest: k.Src, GuestPort: dhcp6.ClientPort,
	}, answer.Message))
}
