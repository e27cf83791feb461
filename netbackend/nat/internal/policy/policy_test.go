package policy

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/vringnet/vring/netbackend/nat/internal/guestnet"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/route"
	"github.com/vringnet/vring/netbackend/nat/routesocket"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

const (
	protoTCP  = unix.IPPROTO_TCP
	protoUDP  = unix.IPPROTO_UDP
	protoICMP = unix.IPPROTO_ICMP
)

// rules parses rules that are written with their flag as a sign: + for --allow, - for --deny.
func rules(t testing.TB, texts ...string) (list []spec.Rule) {
	for _, text := range texts {
		r, err := spec.ParseRule(text[1:], text[0] == '+')
		require.NoError(t, err)
		list = append(list, r)
	}
	return list
}

// usualNets are the networks that guests have if nobody says anything.
func usualNets() guestnet.Networks {
	end := func(text string) ipaddr.Addr { return ipaddr.From(netip.MustParseAddr(text)) }
	return guestnet.New(
		guestnet.Network{Prefix: netip.MustParsePrefix("10.0.2.0/24"), Gateway: end("10.0.2.2"), DNS: end("10.0.2.3")},
		guestnet.Network{Prefix: netip.MustParsePrefix("fd00:10:0:2::/64"), Gateway: end("fd00:10:0:2::2"), DNS: end("fd00:10:0:2::3")},
		[6]byte{0x52, 0x55, 10, 0, 2, 2},
	)
}

// testPolicy is a policy on this host for a guest in usualNets, which its rules must suit.
func testPolicy(t testing.TB, c Config) *Policy {
	nets, routes := usualNets(), &route.Table{}
	for _, r := range c.Rules {
		require.NoError(t, r.Check(nets.V4.Prefix, nets.V6.Prefix))
	}
	socket, err := routesocket.Open(false)
	require.NoError(t, err)
	routes.Open(socket)
	t.Cleanup(routes.Close)
	p := New(Compile(&c, &nets), &nets, routes)
	return &p
}

// ask asks the policy for a destination such as tcp 192.0.2.1:80.
func (p *Policy) ask(proto uint8, to netip.AddrPort) (ipaddr.Endpoint, Verdict) {
	d := p.Judge(Destination{Endpoint: ipaddr.EndpointFrom(to), Proto: proto})
	return d.To, d.Verdict
}

func TestTheHostIsClosedAndTheRestIsOpen(t *testing.T) {
	var cfg Config
	cfg.AllowHost = []spec.HostService{
		{Proto: protoTCP, Port: 5201},
		{Proto: protoTCP, Addr: netip.MustParseAddr("127.0.0.9"), Port: 80},
		{Proto: protoICMP, Addr: netip.MustParseAddr("127.0.0.9")},
	}
	p := testPolicy(t, cfg)
	for _, c := range []struct {
		name  string
		proto uint8
		to    string
		want  Verdict
		where string
	}{
		{"the gateway's opened port leads to loopback", protoTCP, "10.0.2.2:5201", Allowed, "127.0.0.1:5201"},
		{"by UDP it was not opened", protoUDP, "10.0.2.2:5201", IsClosed, ""},
		{"the gateway's other ports are closed", protoTCP, "10.0.2.2:22", IsClosed, ""},
		{"a resolver on loopback is not open", protoUDP, "127.0.0.1:5300", IsClosed, ""},
		{"nor by the gateway", protoUDP, "10.0.2.2:5300", IsClosed, ""},
		{"the name server has no other port", protoTCP, "10.0.2.3:80", IsNobody, ""},
		{"nobody else is in the network", protoTCP, "10.0.2.77:80", IsNobody, ""},
		{"loopback is the host", protoTCP, "127.0.0.1:5201", IsClosed, ""},
		{"unless that address was opened", protoTCP, "127.0.0.9:80", Allowed, "127.0.0.9:80"},
		{"for what it was opened", protoICMP, "127.0.0.9:0", Allowed, "127.0.0.9:0"},
		{"and nothing else", protoUDP, "127.0.0.9:80", IsClosed, ""},
		{"an address mapped into IPv6 is the same address", protoTCP, "[::ffff:127.0.0.1]:22", IsClosed, ""},
		{"link-local addresses are the host's surroundings", protoTCP, "169.254.169.254:80", IsUnlisted, ""},
		{"an unspecified address is the host", protoTCP, "0.0.0.0:80", IsClosed, ""},
		{"private networks are open", protoTCP, "192.168.77.7:80", Allowed, "192.168.77.7:80"},
		{"the internet is open", protoTCP, "198.51.100.1:80", Allowed, "198.51.100.1:80"},
		{"for pings too", protoICMP, "198.51.100.1:0", Allowed, "198.51.100.1:0"},
		{"the gateway's opened port is open in IPv6", protoTCP, "[fd00:10:0:2::2]:5201", Allowed, "[::1]:5201"},
		{"by its link-local address too", protoTCP, "[fe80::5055:aff:fe00:202]:5201", Allowed, "[::1]:5201"},
		{"its other ports are not", protoTCP, "[fe80::5055:aff:fe00:202]:22", IsClosed, ""},
		{"nobody else is in the network of IPv6", protoTCP, "[fd00:10:0:2::77]:80", IsNobody, ""},
		{"or on its link", protoTCP, "[fe80::77]:80", IsNobody, ""},
		{"loopback is the host in IPv6", protoTCP, "[::1]:5201", IsClosed, ""},
		{"clouds keep metadata here, too", protoTCP, "[fd00:ec2::254]:80", IsUnlisted, ""},
		{"the internet is open in IPv6", protoTCP, "[2001:db8::1]:80", Allowed, "[2001:db8::1]:80"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, v := p.ask(c.proto, netip.MustParseAddrPort(c.to))
			require.Equal(t, c.want, v)
			if v == Allowed {
				require.Equal(t, c.where, got.Netip().String())
			}
		})
	}
}

func TestTheFirstRuleThatMatchesDecides(t *testing.T) {
	type ask struct {
		proto uint8
		to    string
		want  Verdict
	}
	for name, c := range map[string]struct {
		restrict bool
		rules    []string
		asks     []ask
	}{
		"a hole in what is closed": {rules: []string{"+192.0.2.7:443", "-192.0.2.0/24"}, asks: []ask{
			{protoTCP, "192.0.2.7:443", Allowed}, {protoUDP, "192.0.2.7:443", Allowed},
			{protoTCP, "192.0.2.7:80", IsDenied}, {protoTCP, "192.0.2.8:443", IsDenied}, {protoICMP, "192.0.2.7:0", IsDenied},
			{protoTCP, "192.0.3.7:80", Allowed},
		}},
		"the hole comes too late": {rules: []string{"-192.0.2.0/24", "+192.0.2.7:443"}, asks: []ask{
			{protoTCP, "192.0.2.7:443", IsDenied},
		}},
		"one protocol": {rules: []string{"-tcp:0.0.0.0/0:25", "-icmp:0.0.0.0/0"}, asks: []ask{
			{protoTCP, "192.0.2.7:25", IsDenied}, {protoUDP, "192.0.2.7:25", Allowed}, {protoTCP, "192.0.2.7:26", Allowed},
			{protoICMP, "192.0.2.7:0", IsDenied},
		}},
		"a range of ports": {rules: []string{"-192.0.2.0/24:100-200"}, asks: []ask{
			{protoTCP, "192.0.2.7:99", Allowed}, {protoTCP, "192.0.2.7:100", IsDenied},
			{protoTCP, "192.0.2.7:200", IsDenied}, {protoTCP, "192.0.2.7:201", Allowed}, {protoICMP, "192.0.2.7:0", Allowed},
		}},
		"an address mapped into IPv6": {rules: []string{"-192.0.2.0/24"}, asks: []ask{
			{protoTCP, "[::ffff:192.0.2.7]:80", IsDenied},
		}},
		"opening everything": {rules: []string{"+0.0.0.0/0"}, asks: []ask{
			{protoTCP, "192.0.2.7:80", Allowed},
			{protoTCP, "127.0.0.1:80", IsClosed}, {protoTCP, "10.0.2.2:80", IsClosed}, {protoTCP, "10.0.2.77:80", IsNobody},
			{protoTCP, "169.254.169.254:80", IsUnlisted},
		}},
		"opening what is wider than link-local": {rules: []string{"+169.254.0.0/15"}, asks: []ask{
			{protoTCP, "169.254.169.254:80", IsUnlisted},
		}},
		"opening a link-local address": {rules: []string{"+0.0.0.0/0", "+tcp:169.254.169.254:80"}, asks: []ask{
			{protoTCP, "169.254.169.254:80", Allowed}, {protoTCP, "169.254.169.254:81", IsUnlisted},
			{protoTCP, "169.254.169.253:80", IsUnlisted},
		}},
		"closing everything": {rules: []string{"-0.0.0.0/0"}, asks: []ask{
			{protoTCP, "192.0.2.7:80", IsDenied}, {protoTCP, "169.254.169.254:80", IsDenied},
			{protoTCP, "10.0.2.2:5201", Allowed}, {protoTCP, "10.0.2.2:80", IsClosed},
		}},
		"rules of IPv4 and IPv6 are apart": {rules: []string{"-0.0.0.0/0", "+tcp:[2001:db8::/32]:443", "-tcp:[2001:db8::/32]:1-65535"}, asks: []ask{
			{protoTCP, "[2001:db8::1]:443", Allowed}, {protoTCP, "[2001:db8::1]:80", IsDenied}, {protoUDP, "[2001:db8::1]:80", Allowed},
			{protoTCP, "[2001:db9::1]:80", Allowed}, {protoICMP, "[2001:db8::1]:0", Allowed}, {protoTCP, "192.0.2.7:443", IsDenied},
		}},
		"closing all of IPv6": {rules: []string{"-::/0"}, asks: []ask{
			{protoTCP, "[2001:db8::1]:443", IsDenied}, {protoTCP, "192.0.2.7:443", Allowed}, {protoTCP, "[fd00:10:0:2::2]:5201", Allowed},
		}},
		"opening all of IPv6": {rules: []string{"+::/0"}, asks: []ask{
			{protoTCP, "[2001:db8::1]:443", Allowed}, {protoTCP, "[::1]:80", IsClosed}, {protoTCP, "[fd00:10:0:2::2]:80", IsClosed},
			{protoTCP, "[fd00:10:0:2::77]:80", IsNobody}, {protoTCP, "[fd00:ec2::254]:80", IsUnlisted},
		}},
		"opening a cloud's metadata": {rules: []string{"+tcp:[fd20:ce::254]:80"}, asks: []ask{
			{protoTCP, "[fd20:ce::254]:80", Allowed}, {protoTCP, "[fd20:ce::254]:81", IsUnlisted}, {protoTCP, "[fd00:c1::a9fe:a9fe]:80", IsUnlisted},
		}},
		"restricted": {restrict: true, rules: []string{"+192.0.2.0/24", "-198.51.100.0/24"}, asks: []ask{
			{protoTCP, "192.0.2.7:80", Allowed}, {protoICMP, "192.0.2.7:0", Allowed}, {protoTCP, "198.51.100.7:80", IsDenied},
			{protoTCP, "203.0.113.7:80", IsUnlisted}, {protoTCP, "192.168.77.7:80", IsUnlisted},
			{protoTCP, "169.254.169.254:80", IsUnlisted}, {protoTCP, "127.0.0.1:80", IsClosed},
			{protoTCP, "10.0.2.2:5201", Allowed}, {protoTCP, "10.0.2.2:22", IsClosed},
			{protoTCP, "[2001:db8::1]:443", IsUnlisted}, {protoTCP, "[fd00:10:0:2::2]:5201", Allowed},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var cfg Config
			cfg.AllowHost = []spec.HostService{{Proto: protoTCP, Port: 5201}}
			cfg.Rules, cfg.Restrict = rules(t, c.rules...), c.restrict
			p := testPolicy(t, cfg)
			for _, a := range c.asks {
				_, v := p.ask(a.proto, netip.MustParseAddrPort(a.to))
				require.Equal(t, a.want, v, "%s %s", spec.ProtoName(a.proto), a.to)
			}
		})
	}
}

func TestEveryAddressHasAClass(t *testing.T) {
	p := testPolicy(t, Config{})
	for text, want := range map[string]class{
		"127.0.0.1": classLoopback, "127.255.255.254": classLoopback, "0.0.0.0": classLoopback,
		"10.0.2.0": classGuest, "10.0.2.77": classGuest,
		"169.254.169.254": classLinkLocal, "169.254.0.1": classLinkLocal,
		"10.211.3.1": classPrivate, "172.16.211.1": classPrivate, "172.31.255.1": classPrivate, "192.168.77.7": classPrivate,
		"100.64.0.1": classPrivate, "100.127.255.255": classPrivate,
		"::1": classLoopback, "::": classLoopback, "fd00:10:0:2::77": classGuest, "fe80::1": classGuest, "febf::1": classGuest,
		"fd00:ec2::254": classLinkLocal, "fd20:ce::254": classLinkLocal, "fd00:c1::a9fe:a9fe": classLinkLocal,
		"fd00:10:0:3::1": classPrivate, "fc00::1": classPrivate, "2001:db8::1": classInternet, "fec0::1": classInternet,
		"100.128.0.1": classInternet, "172.32.0.1": classInternet, "192.0.2.1": classInternet, "169.255.0.1": classInternet,
	} {
		a := ipaddr.From(netip.MustParseAddr(text))
		require.Equal(t, want, p.classify(&a), text)
	}
}

// plain is what a list of rules means, said with the address types of the standard library.
func plain(list []spec.Rule, proto uint8, to netip.AddrPort) *spec.Rule {
	linkLocal := netip.MustParsePrefix("169.254.0.0/16")
	for i := range list {
		r := &list[i]
		anyPort := r.First == 0 && r.Last == 0
		switch {
		case !r.Prefix.Contains(to.Addr()):
		case r.Proto != 0 && r.Proto != proto:
		case !anyPort && (to.Port() < r.First || to.Port() > r.Last):
		case r.Allow && linkLocal.Contains(to.Addr()) && (r.Prefix.Bits() < 16 || !linkLocal.Contains(r.Prefix.Addr())):
		default:
			return r
		}
	}
	return nil
}

func TestFiltersMeanWhatTheRulesSay(t *testing.T) {
	// Few addresses, near each other, so that rules match.
	address := rapid.Custom(func(t *rapid.T) netip.Addr {
		first := rapid.SampledFrom([][2]byte{{169, 254}, {169, 255}, {192, 0}}).Draw(t, "network")
		return netip.AddrFrom4([4]byte{first[0], first[1], 0, rapid.Byte().Draw(t, "host") & 3})
	})
	port := rapid.Uint16Range(1, 4)
	rule := rapid.Custom(func(t *rapid.T) spec.Rule {
		r := spec.Rule{
			Allow:  rapid.Bool().Draw(t, "allow"),
			Proto:  rapid.SampledFrom([]uint8{0, protoTCP, protoUDP, protoICMP}).Draw(t, "proto"),
			Prefix: netip.PrefixFrom(address.Draw(t, "address"), rapid.IntRange(0, 32).Draw(t, "bits")).Masked(),
		}
		if rapid.Bool().Draw(t, "ports") {
			r.First = port.Draw(t, "first")
			r.Last = max(r.First, port.Draw(t, "last"))
		}
		return r
	})
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(rule, 0, 6).Draw(t, "rules")
		proto := rapid.SampledFrom([]uint8{protoTCP, protoUDP}).Draw(t, "asked protocol")
		to := netip.AddrPortFrom(address.Draw(t, "asked address"), port.Draw(t, "asked port"))
		e := ipaddr.EndpointFrom(to)
		want := plain(list, proto, to)
		got := newFilters(list).match(proto, &e, to.Addr().IsLinkLocalUnicast())
		if (got != nil) != (want != nil) || got != nil && got.allow != want.Allow {
			t.Fatalf("%v to %s: got %v, want %v", list, to, got, want)
		}
	})
}

// manyRules is a policy whose rules match nothing that is asked for, so that all have to be looked at.
func manyRules(t testing.TB, n int) *Policy {
	var cfg Config
	for i := range n {
		cfg.Rules = append(cfg.Rules, spec.Rule{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 32)})
	}
	return testPolicy(t, cfg)
}

func TestADecisionAllocatesNothing(t *testing.T) {
	p := manyRules(t, 300)
	to := Destination{Endpoint: ipaddr.EndpointFrom(netip.MustParseAddrPort("192.0.2.1:80")), Proto: protoTCP}
	require.Zero(t, testing.AllocsPerRun(100, func() { p.Judge(to) }))
}

func BenchmarkRules(b *testing.B) {
	for _, n := range []int{0, 10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := manyRules(b, n)
			to := ipaddr.EndpointFrom(netip.MustParseAddrPort("192.0.2.1:80"))
			b.ReportAllocs()
			for b.Loop() {
				p.rules.filters.match(protoTCP, &to, false)
			}
		})
	}
	b.Run("with the lookup of a route", func(b *testing.B) {
		p := manyRules(b, 100)
		to := ipaddr.EndpointFrom(netip.MustParseAddrPort("192.0.2.1:80"))
		b.ReportAllocs()
		for b.Loop() {
			p.Judge(Destination{Endpoint: to, Proto: protoTCP})
		}
	})
}

func TestAnExplanationNamesTheRuleThatDecides(t *testing.T) {
	p := testPolicy(t, Config{
		AllowHost: []spec.HostService{{Proto: protoTCP, Port: 22}},
		Rules:     rules(t, "-tcp:0.0.0.0/0:25", "+0.0.0.0/0:25", "+169.254.0.0/16:80", "-192.0.2.0/24", "+0.0.0.0/0:26"), Restrict: true,
	})
	for to, want := range map[string]struct {
		rule    int
		verdict Verdict
	}{
		"192.0.2.1:25": {0, IsDenied}, "192.0.2.1:80": {3, IsDenied}, "198.51.100.1:80": {-1, IsUnlisted}, "10.0.2.2:22": {-1, Allowed},
		"169.254.169.254:25": {0, IsDenied}, "169.254.169.254:80": {2, Allowed}, "169.254.169.254:81": {-1, IsUnlisted},
		"198.51.100.1:26": {4, Allowed}, "169.254.169.254:26": {-1, IsUnlisted},
		"127.0.0.1:25": {-1, IsClosed}, "10.0.2.9:25": {-1, IsNobody},
	} {
		e := p.Explain(Destination{Endpoint: ipaddr.EndpointFrom(netip.MustParseAddrPort(to)), Proto: protoTCP})
		require.Equal(t, want.rule, e.Rule, to)
		require.Equal(t, want.verdict, e.Verdict, to)
		require.Equal(t, to == "10.0.2.2:22", e.Opened, to)
	}
}
