package nat

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/egress"
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/measure"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/tcp"
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
	Way     spec.Way       // how it leaves the host; the zero Way is as the kernel chooses
	Proof   []string       // how a connection must tell its server before the host's socket gets a byte, any of "tls", "http" and "quic"; none if it need not
	Name    *NameExplained // of the target's name; nil for a target without one
}

// Explain says what becomes of a flow that the guest begins now to a destination, and why. to is one address or name, with a port unless it is
// about ICMP: see ParseTarget. Limits on how many flows there may be are not asked. The worker's thread may call it, or anybody after
// Close. It takes a few system calls, and sends nothing.
func (p *Port) Explain(to Target) Explanation {
	if to.Name != "" {
		return p.explainName(to)
	}
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
		if e.Way != nil {
			x.Way = *e.Way
		}
		x.Source, x.Why = explainRoute(&e.To, x.Way, x.Why)
	case policy.IsClosed:
		x.OpenBy = hostOpener(p.shard.Nets, &key)
	case policy.Held:
		x.Proof = e.Proof.Texts()
	case policy.IsUnlisted, policy.IsDenied, policy.IsResolver:
		x.OpenBy = p.opening(key, e.Verdict)
	}
	return x
}

// answersItself says how the engine answers what is meant for itself, "" for what is not.
func (p *Port) answersItself(key *flowtable.Key) string {
	s := p.shard
	switch {
	case s.IsQuery(key):
		return "it is the name server: vring asks the host's resolvers, or those of --dns"
	case !s.Nets.IsOurs(&key.Remote) && !p.policy.IsAlias(&key.Remote):
		return ""
	case key.Proto == netpkt.ICMP:
		return "vring answers echo requests to its own addresses"
	case (key.Proto == netpkt.TCP || key.Proto == netpkt.UDP) && p.measuring.Find(key) != measure.None:
		return "it is " + p.measuring.Find(key).String() + ", a service to measure with, which vring answers itself: --measure"
	case p.booting.Find(key) != nil:
		return "it is the server of boot files, which vring is itself: --tftp"
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
	case e.Led:
		return p.leadingOption(key)
	case e.Opened:
		return hostOpener(p.shard.Nets, key)
	}
	return p.ruleText(e.Rule)
}

// optionsOf returns rules as options of the command line.
func optionsOf(rules []spec.Rule) []string {
	texts := make([]string, len(rules))
	for i := range rules {
		texts[i] = rules[i].Option() + " " + rules[i].String()
	}
	return texts
}

// leadingOption is the redirect that leads the destination of a flow elsewhere, as an option.
func (p *Port) leadingOption(key *flowtable.Key) string {
	text := ""
	for _, r := range p.adopted.redirects {
		to := netip.AddrPortFrom(key.Remote.Netip(), r.From.Port())
		if r.From == to && (r.Proto == 0 || r.Proto == key.Proto) && (text == "" || r.From.Port() == key.RemotePort) {
			text = "--redirect " + r.String()
		}
	}
	return text
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
	case policy.IsResolver:
		return "it is another name server than vring's, which is closed while there are rules by name"
	case policy.NoWay:
		return "how it is to leave the host, " + e.Way.String() + ", is a way for TCP only"
	case policy.Held:
		return "a rule by name decides when the connection has told the name"
	case policy.IsNobody:
		return "it is in the guest's own network, where nobody has that address"
	}
	switch {
	case e.Led:
		return "a redirect leads there"
	case e.Opened:
		return "it is a service of the host that was opened"
	case decided:
		return "the first rule that matches opens it"
	}
	return "no rule matches, and what is not the host's is open"
}

// explainRoute returns by which address the host reaches a destination, or the proxy that leads there. If it cannot, it says so behind why.
func explainRoute(to *ipaddr.Endpoint, way spec.Way, why string) (source netip.Addr, _ string) {
	out := tcp.Outward{To: *to, Way: &way}
	first := out.Target()
	to = &first
	fd, err := unix.Socket(to.Addr.Domain(), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return netip.Addr{}, why
	}
	defer unix.Close(fd)
	if err := egress.Bind(fd, to.Addr.Is4(), &way); err != nil {
		return netip.Addr{}, fmt.Sprintf("%s; but it is closed, for it cannot leave as it is to: %v", why, err)
	}
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
	Name  string // in place of Addr, as spec.CanonicalName returns it; "" for an address. ICMP has none
}

// TargetForm is what ParseTarget reads.
const TargetForm = "tcp:ADDRESS:PORT, udp:ADDRESS:PORT, icmp:ADDRESS, tcp:NAME:PORT or udp:NAME:PORT"

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
	if host, port, _ := strings.Cut(end, ":"); spec.CanonicalName(host) != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			err = fmt.Errorf("%q is not a port between 1 and 65535", port)
		}
		return Target{Proto: proto, Port: uint16(n), Name: spec.CanonicalName(host)}, err
	}
	to, err := netip.ParseAddrPort(end)
	if err == nil && to.Port() == 0 {
		err = errors.New("there is no port 0")
	}
	return Target{Proto: proto, Addr: to.Addr().Unmap(), Port: to.Port()}, checkTarget(to.Addr(), err)
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
