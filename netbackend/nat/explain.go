package nat

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// Explanation is what becomes of a flow that the guest begins now.
type Explanation struct {
	Allowed bool
	Why     string         // a sentence without its full stop
	By      string         // what of the configuration decides, as an option: "--deny tcp:0.0.0.0/0:25"; "" for nothing in particular
	OpenBy  string         // the option that would open the destination, "" if it is open or no option can
	Owner   string         // whose the address is; "" for one of the engine's own
	Host    netip.AddrPort // where it leads on the host's side; the zero AddrPort if it is closed, or answered by the engine
	Source  netip.Addr     // the host's address that the peer sees; the zero Addr if Host is, or no route leads there
}

// Explain says what becomes of a flow that the guest begins now to a destination, and why. to is one address, with a port unless it is
// about ICMP: see ParseTarget. Limits on how many flows there may be are not asked. The worker's thread may call it, or anybody after
// Close. It takes a few system calls, and sends nothing.
func (p *Port) Explain(to Target) Explanation {
	key := flowtable.Key{Proto: to.Proto, Remote: ipaddr.From(to.Addr), RemotePort: to.Port}
	if why := p.answersItself(&key); why != "" {
		return Explanation{Allowed: true, Why: why}
	}
	e := p.policy.Explain(policy.DestinationOf(&key))
	x := Explanation{Allowed: e.Verdict == policy.Allowed, Owner: e.Owner, By: p.decidedBy(&key, &e)}
	x.Why = why(&e, x.By != "")
	switch e.Verdict {
	case policy.Allowed:
		x.Host = e.To.Netip()
		x.Source, x.Why = explainRoute(&e.To, x.Why)
	case policy.IsClosed:
		x.OpenBy = "--allow-host " + p.icmp.Opener(&key)
	case policy.IsUnlisted, policy.IsDenied:
		x.OpenBy = "--allow " + p.icmp.Opener(&key)
	}
	return x
}

// answersItself says how the engine answers what is meant for itself, "" for what is not.
func (p *Port) answersItself(key *flowtable.Key) string {
	s := p.shard
	switch {
	case s.IsQuery(key):
		return "it is the name server: vring asks the host's resolvers, or those of --dns"
	case !s.Nets.IsOurs(&key.Remote):
		return ""
	case key.Proto == netpkt.ICMP:
		return "vring answers echo requests to its own addresses"
	case key.Proto == netpkt.UDP && key.RemotePort == netpkt.DHCPServerPort && key.Remote.Is4():
		return "it is the DHCP server, which vring is itself"
	}
	return ""
}

// denying returns the rule that closes the destination of a flow, "" for none.
func (p *Port) denying(key flowtable.Key) string {
	e := p.policy.Explain(policy.DestinationOf(&key))
	return p.decidedBy(&key, &e)
}

// decidedBy returns the option that decides, "" for none.
func (p *Port) decidedBy(key *flowtable.Key, e *policy.Explanation) string {
	switch {
	case e.Opened:
		return "--allow-host " + p.icmp.Opener(key)
	case e.Rule < 0 || e.Rule >= len(p.adopted.written):
		return ""
	}
	r := p.adopted.written[e.Rule]
	if r.Allow {
		return "--allow " + r.String()
	}
	return "--deny " + r.String()
}

// why says in words what a verdict rests on.
func why(e *policy.Explanation, decided bool) string {
	switch e.Verdict {
	case policy.IsClosed:
		return "it is a service of the host, which is closed unless it is opened"
	case policy.IsUnlisted:
		return "it is closed unless a rule opens it: by --restrict, or since it is link-local or a cloud's metadata"
	case policy.IsDenied:
		return "the first rule that matches closes it"
	case policy.IsNobody:
		return "it is in the guest's own network, where nobody has that address"
	}
	switch {
	case e.Opened:
		return "it is a service of the host that was opened"
	case decided:
		return "the first rule that matches opens it"
	}
	return "no rule matches, and what is not the host's is open"
}

// explainRoute returns by which address the host reaches a destination. If it cannot, it says so behind why.
func explainRoute(to *ipaddr.Endpoint, why string) (source netip.Addr, _ string) {
	fd, err := unix.Socket(to.Addr.Domain(), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return netip.Addr{}, why
	}
	defer unix.Close(fd)
	if errno := hostsock.Connect(int32(fd), to); errno != 0 {
		return netip.Addr{}, fmt.Sprintf("%s; but the host has no way there: %v", why, errno)
	}
	name := hostsock.NameOf(int32(fd))
	return name.Addr.Netip(), why
}

// Target is one destination of a guest.
type Target struct {
	Proto uint8 // unix.IPPROTO_TCP, unix.IPPROTO_UDP or unix.IPPROTO_ICMP
	Addr  netip.Addr
	Port  uint16 // 0 for ICMP
}

// TargetForm is what ParseTarget reads.
const TargetForm = "tcp:ADDRESS:PORT, udp:ADDRESS:PORT or icmp:ADDRESS"

// ParseTarget reads TargetForm, where an address of IPv6 in front of a port stands in brackets.
func ParseTarget(text string) (Target, error) {
	t, err := parseTarget(text)
	if err != nil {
		return Target{}, fmt.Errorf("%q: %w; want %s, as in tcp:192.0.2.34:443 or tcp:[2001:db8::1]:443", text, err, TargetForm)
	}
	return t, nil
}

func parseTarget(text string) (Target, error) {
	name, end, _ := strings.Cut(text, ":")
	proto, ok := spec.ParseProto(name)
	if !ok {
		return Target{}, errors.New("it begins with no protocol")
	}
	if proto == netpkt.ICMP {
		addr, err := netip.ParseAddr(strings.Trim(end, "[]"))
		return Target{Proto: proto, Addr: addr.Unmap()}, checkTarget(addr, err)
	}
	to, err := netip.ParseAddrPort(end)
	if err == nil && to.Port() == 0 {
		err = errors.New("there is no port 0")
	}
	return Target{proto, to.Addr().Unmap(), to.Port()}, checkTarget(to.Addr(), err)
}

// checkTarget returns what is wrong with an address that was read, unless err is.
func checkTarget(a netip.Addr, err error) error {
	switch {
	case err != nil:
		return err
	case a.Zone() != "":
		return errors.New("a guest's packet has no zone")
	case a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return errors.New("it is a group, and no flow leads there")
	}
	return nil
}
