package policy

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// metadataServices are addresses at which providers document their services for a machine's own metadata and credentials.
func metadataServices() map[string]string {
	return map[string]string{
		"169.254.169.254": "Amazon, Google, Azure, Oracle, DigitalOcean, Hetzner, OpenStack and others", "169.254.170.2": "Amazon, tasks",
		"169.254.170.23": "Amazon, pods", "169.254.0.23": "Tencent", "169.254.42.42": "Scaleway",
		"100.100.100.200": "Alibaba", "168.63.129.16": "Azure", "192.0.0.192": "Oracle, old", "100.96.0.96": "Volcano Engine",
		"100.80.80.80": "UCloud", "fd00:ec2::254": "Amazon", "fd00:ec2::23": "Amazon, pods", "fd20:ce::254": "Google",
		"fd00:c1::a9fe:a9fe": "Oracle", "fd00:42::42": "Scaleway", "fd00:a9fe:a9fe::1": "Akamai", "fd00:100::100:200": "Alibaba",
	}
}

// clothed returns the forms of IPv6 that lead to an address of IPv4 by way of some translator or tunnel.
func clothed(a netip.Addr) map[string]netip.Addr {
	b := a.As4()
	v6 := func(from string, bytes map[int]byte) netip.Addr {
		x := netip.MustParseAddr(from).As16()
		for i, v := range bytes {
			x[i] = v
		}
		return netip.AddrFrom16(x)
	}
	last := map[int]byte{12: b[0], 13: b[1], 14: b[2], 15: b[3]}
	return map[string]netip.Addr{
		"mapped": netip.AddrFrom16(a.As16()), "compatible": v6("::", last), "translated": v6("::ffff:0:0:0", last),
		"NAT64": v6("64:ff9b::", last), "local NAT64": v6("64:ff9b:1::", last),
		"local NAT64 /64": v6("64:ff9b:1:7::", map[int]byte{9: b[0], 10: b[1], 11: b[2], 12: b[3]}),
		"local NAT64 /56": v6("64:ff9b:1::", map[int]byte{7: b[0], 9: b[1], 10: b[2], 11: b[3]}),
		"local NAT64 /48": v6("64:ff9b:1::", map[int]byte{6: b[0], 7: b[1], 9: b[2], 10: b[3]}),
		"6to4":            v6("2002::1", map[int]byte{2: b[0], 3: b[1], 4: b[2], 5: b[3]}),
		"Teredo server":   v6("2001::1", map[int]byte{4: b[0], 5: b[1], 6: b[2], 7: b[3]}),
		"Teredo client":   v6("2001::", map[int]byte{12: ^b[0], 13: ^b[1], 14: ^b[2], 15: ^b[3]}),
		"ISATAP":          v6("2001:db8::5efe:0:0", last),
	}
}

func TestMetadataServicesOfCloudsAreClosedInEveryForm(t *testing.T) {
	var cfg Config
	cfg.Rules = rules(t, "+0.0.0.0/0", "+::/0", "+100.64.0.0/10", "+168.63.0.0/16", "+fd00::/8", "+64:ff9b::/96", "+2002::/16")
	for name, p := range map[string]*Policy{"no rules": testPolicy(t, Config{}), "wide rules": testPolicy(t, cfg)} {
		t.Run(name, func(t *testing.T) {
			for text, provider := range metadataServices() {
				a := netip.MustParseAddr(text)
				_, v := p.ask(protoTCP, netip.AddrPortFrom(a, 80))
				require.Equal(t, IsUnlisted, v, "%s of %s", text, provider)
				if a.Is6() {
					continue
				}
				for form, a := range clothed(a) {
					_, v := p.ask(protoUDP, netip.AddrPortFrom(a, 80))
					require.Equal(t, IsUnlisted, v, "%s as %s address %s", text, form, a)
				}
			}
			for form, a := range clothed(netip.MustParseAddr("198.51.100.1")) {
				_, v := p.ask(protoTCP, netip.AddrPortFrom(a, 80))
				require.Equal(t, Allowed, v, "%s address %s", form, a)
			}
			for form, a := range clothed(netip.MustParseAddr("127.0.0.1")) {
				_, v := p.ask(protoTCP, netip.AddrPortFrom(a, 80))
				require.Equal(t, IsClosed, v, "%s address %s", form, a)
			}
		})
	}
}

func TestMetadataServicesAreOpenedByNarrowRulesOnly(t *testing.T) {
	var cfg Config
	for text := range metadataServices() {
		cfg.Rules = append(cfg.Rules, rules(t, "+"+text)...)
	}
	cfg.Rules = append(cfg.Rules, rules(t, "+64:ff9b::a9fe:0/112", "+2002:a9fe::/32", "+2002:6464:6400::/40")...)
	p := testPolicy(t, cfg)
	for text := range metadataServices() {
		_, v := p.ask(protoTCP, netip.AddrPortFrom(netip.MustParseAddr(text), 80))
		require.Equal(t, Allowed, v, text)
	}
	for text, want := range map[string]Verdict{
		"64:ff9b::a9fe:a9fe": Allowed, "2002:a9fe:a9fe::1": Allowed, // what all of a rule's network stands for is link-local
		"64:ff9b::6464:64c8": IsUnlisted, "2002:6464:64c8::1": IsUnlisted, // rules of IPv4 open nothing in IPv6
		"2001:0:a9fe:a9fe::1": IsUnlisted, "169.254.1.1": IsUnlisted, "fd00:ec2::253": IsUnlisted,
	} {
		_, v := p.ask(protoTCP, netip.AddrPortFrom(netip.MustParseAddr(text), 80))
		require.Equal(t, want, v, text)
	}
}
