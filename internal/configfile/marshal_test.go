package configfile

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/netbackend/services/dnszone"
	"github.com/vringnet/vring/netbackend/services/hostconf"
	"github.com/vringnet/vring/tap"
)

// texts that YAML could take for something else, or that must be quoted, and any others.
func anyText() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{"null", "~", "yes", "On", "0x10", "1_0", "1e3", "0660", "1:30", "- a", "a: b", "#", "a #b", "'", "\"", "\\", "{}", "[a]",
			"*a", "&a", "!a", "%a", "@a", "`a`", " a ", "a\nb", "\t", "\u2028", "é", "😀", "\x7f", "|", ">", "?", "<<", "---", "...", "-", "true", "2001-01-01", ".inf", "=", "\u0085", "\ufeff"}),
		rapid.StringMatching(`[ -~]{1,12}`),
		rapid.StringN(1, 12, -1).Filter(func(s string) bool { return !strings.ContainsRune(s, 0) && s == strings.ToValidUTF8(s, "") }),
	)
}

func ipv4(t *rapid.T) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(rapid.IntRange(0, 255).Draw(t, "net")), byte(rapid.IntRange(0, 255).Draw(t, "sub")), byte(rapid.IntRange(1, 254).Draw(t, "host"))})
}

func ipv6(t *rapid.T) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fd00::%x:%x", rapid.IntRange(1, 65535).Draw(t, "high"), rapid.IntRange(1, 65535).Draw(t, "low")))
}

func addr(t *rapid.T) netip.Addr {
	if rapid.Bool().Draw(t, "IPv6") {
		return ipv6(t)
	}
	return ipv4(t)
}

func port(t *rapid.T) uint16 { return uint16(rapid.IntRange(1, 60000).Draw(t, "port")) }

// some draws up to three values.
func some[T any](draw func(*rapid.T) T) *rapid.Generator[[]T] {
	return rapid.SliceOfN(rapid.Custom(draw), 0, 3)
}

// read parses a text that is known to be right.
func read[T any](t *rapid.T, parse func(string) (T, error), format string, args ...any) T {
	v, err := parse(fmt.Sprintf(format, args...))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func forward(t *rapid.T) spec.Forward {
	if rapid.Bool().Draw(t, "unix") {
		return spec.Forward{Proto: unix.IPPROTO_TCP, Path: "/run/" + rapid.StringMatching(`[a-z ]{1,9}`).Draw(t, "name"), Guest: netip.AddrPortFrom(netip.Addr{}, port(t)), Count: 1}
	}
	options := rapid.SampledFrom([]string{"", "gate:", "send-proxy:", "send-proxy-v2:gate:", "accept-proxy:", "udp:"}).Draw(t, "options")
	n := rapid.IntRange(0, 9).Draw(t, "more")
	first := port(t)
	return read(t, spec.ParseForward, "%s%v:%d-%d:%d-%d", options, ipv4(t), first, int(first)+n, first, int(first)+n)
}

func services(t *rapid.T) (all []spec.HostService) {
	for range rapid.IntRange(0, 3).Draw(t, "services") {
		text := rapid.SampledFrom([]string{"%d", "udp:%d", "tcp:192.0.2.1:%d", "[::1]:%d"}).Draw(t, "service")
		first := port(t)
		all = append(all, read(t, spec.ParseHostServices, text+"-%d", first, first+4)...)
	}
	return all
}

func rule(t *rapid.T) spec.Rule {
	text := fmt.Sprintf("udp:%v/32:%d-60000", ipv4(t), port(t))
	r, err := spec.ParseRule(text, rapid.Bool().Draw(t, "allow"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func redirect(t *rapid.T) spec.Redirect {
	proto := rapid.SampledFrom([]string{"", "tcp:", "udp:"}).Draw(t, "proto")
	if rapid.Bool().Draw(t, "ports") {
		return read(t, spec.ParseRedirect, "%s%v:%d=%v:%d", proto, ipv4(t), port(t), ipv4(t), port(t))
	}
	return read(t, spec.ParseRedirect, "%s%v=%v", proto, ipv4(t), ipv6(t))
}

func dnsName(t *rapid.T) dnszone.Entry {
	return read(t, dnszone.ParseEntry, "%s@%s=%v", rapid.SampledFrom([]string{"host", "*", "/^a.*: #$/"}).Draw(t, "name"), rapid.StringMatching(`[a-z]{1,3}\.[a-z]{5}`).Draw(t, "zone"), addr(t))
}

func natConfig(t *rapid.T) *daemon.NAT {
	n := &daemon.NAT{
		Network: netip.PrefixFrom(ipv4(t), 24).Masked(), MTU: rapid.IntRange(0, 70000).Draw(t, "mtu"), Queues: rapid.IntRange(0, 9).Draw(t, "queues"),
		Hostname: rapid.StringMatching(`[a-z0-9]{0,5}`).Draw(t, "hostname"), Domain: rapid.OneOf(rapid.Just(""), anyText()).Draw(t, "domain"),
		Search: rapid.SliceOfN(rapid.StringMatching(`[a-z]{1,3}\.[a-z]{5}`), 0, 3).Draw(t, "search"), NoSearch: rapid.Bool().Draw(t, "no search"),
		Forwards: some(forward).Draw(t, "forwards"), AllowHost: services(t), Rules: some(rule).Draw(t, "rules"), Redirects: some(redirect).Draw(t, "redirects"), Expose: rapid.Bool().Draw(t, "expose"),
		Names:    some(dnsName).Draw(t, "names"),
		Restrict: rapid.Bool().Draw(t, "restrict"), EndpointIndependent: rapid.Bool().Draw(t, "one port"), DNSCache: rapid.Bool().Draw(t, "cache"),
		Measure:        rapid.Bool().Draw(t, "measure"),
		UDPFiltering:   rapid.SampledFrom([]nat.Filtering{nat.AddressAndPortDependent, nat.AddressDependent, nat.EndpointIndependent}).Draw(t, "filtering"),
		Multicast:      rapid.SliceOfN(anyText(), 0, 3).Draw(t, "multicast"),
		ReconnectGrace: time.Duration(rapid.Int64Range(0, 1e13).Draw(t, "grace")), NTP: some(addr).Draw(t, "ntp"), BootServers: some(addr).Draw(t, "boot servers"),
		Resolvers: some(func(t *rapid.T) dns.Server { return dns.Server{Addr: netip.AddrPortFrom(addr(t), port(t))} }).Draw(t, "dns"),
		Split:     []dns.Route{{Domain: "corp.example", Servers: []dns.Server{{Addr: netip.AddrPortFrom(addr(t), port(t)), TLS: true, Name: "dns.corp.example"}}}},
		Leases: some(func(t *rapid.T) hostconf.Lease {
			return read(t, hostconf.ParseLease, "52:54:00:12:34:%02x=%v", rapid.Byte().Draw(t, "mac"), addr(t))
		}).Draw(t, "leases"),
		Routes: some(func(t *rapid.T) hostconf.Route {
			return read(t, hostconf.ParseRoute, "%v/32=%v", ipv4(t), ipv4(t))
		}).Draw(t, "routes"),
		BootFiles: some(func(t *rapid.T) hostconf.BootFile {
			return read(t, hostconf.ParseBootFile, "%s%s", rapid.SampledFrom([]string{"", "bios=", "7="}).Draw(t, "client"), rapid.StringMatching(`[a-z/.:#]{1,9}`).Draw(t, "name"))
		}).Draw(t, "boot files"),
		Options: some(func(t *rapid.T) hostconf.Option {
			return read(t, hostconf.ParseOption, "%d=%s", rapid.SampledFrom([]int{44, 46, 114}).Draw(t, "number"), rapid.SampledFrom([]string{"", "hex:0102", "192.0.2.1", "text: a:# b"}).Draw(t, "value"))
		}).Draw(t, "options"),
	}
	switch rapid.IntRange(0, 2).Draw(t, "network6") {
	case 0:
		n.NoIPv6 = true
	case 1:
		n.Network6 = netip.PrefixFrom(ipv6(t), 64).Masked()
	}
	return n
}

func tapConfig(t *rapid.T, guests int) *daemon.TAP {
	c := &daemon.TAP{
		Bridge: rapid.OneOf(rapid.Just(""), anyText()).Draw(t, "bridge"), Queues: rapid.IntRange(0, 9).Draw(t, "queues"),
		MTU: rapid.IntRange(0, 70000).Draw(t, "mtu"), Reopen: rapid.Bool().Draw(t, "reopen"),
		VLANs: tap.VLANs{Access: uint16(rapid.IntRange(0, 4094).Draw(t, "vlan")), Trunk: some(func(t *rapid.T) tap.VLANRange {
			first := rapid.IntRange(1, 4094).Draw(t, "first")
			return tap.VLANRange{First: uint16(first), Last: uint16(rapid.IntRange(first, 4094).Draw(t, "last"))}
		}).Draw(t, "trunk")},
	}
	for range guests {
		c.Devices = append(c.Devices, anyText().Draw(t, "device"))
	}
	if rapid.Bool().Draw(t, "has mac") {
		c.MAC = net.HardwareAddr(rapid.SliceOfN(rapid.Byte(), 6, 6).Draw(t, "mac"))
	}
	return c
}

// anyConfig draws a configuration whose parts each can be written.
func anyConfig(t *rapid.T) daemon.Config {
	c := daemon.Config{
		Control: daemon.ParseControl(rapid.OneOf(rapid.Just(""), rapid.Just(daemon.NoControl), anyText()).Draw(t, "control")),
		Metrics: rapid.SampledFrom([]netip.AddrPort{{}, netip.MustParseAddrPort("127.0.0.1:9100"), netip.MustParseAddrPort("[::1]:1")}).Draw(t, "metrics"),
		SOCKS:   rapid.SampledFrom([]netip.AddrPort{{}, netip.MustParseAddrPort("127.0.0.1:1080"), netip.MustParseAddrPort("[::1]:1")}).Draw(t, "socks"),
		UI:      rapid.SampledFrom([]netip.AddrPort{{}, netip.MustParseAddrPort("127.0.0.1:8000"), netip.MustParseAddrPort("[::1]:1")}).Draw(t, "ui"),
		State:   rapid.OneOf(rapid.Just(""), anyText()).Draw(t, "state"),
		Sandbox: rapid.SampledFrom([]sandbox.Mode{sandbox.On, sandbox.Strict, sandbox.Log, sandbox.Off}).Draw(t, "sandbox"),
		Log: daemon.Log{
			Level:  rapid.SampledFrom([]slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}).Draw(t, "level"),
			Format: rapid.SampledFrom([]string{daemon.FormatText, daemon.FormatJSON}).Draw(t, "format"),
		},
		Threads: daemon.Threads{
			Poll: time.Duration(rapid.IntRange(0, 1_000_000).Draw(t, "poll")) * time.Microsecond,
			CPUs: rapid.SliceOfN(rapid.IntRange(0, 1023), 0, 4).Draw(t, "cpus"),
		},
		FrontEnds: daemon.FrontEnds{
			Client: rapid.Bool().Draw(t, "client"), SocketMode: os.FileMode(rapid.IntRange(0, 0o777).Draw(t, "mode")),
			Kind:   rapid.SampledFrom([]daemon.FrontEnd{daemon.FrontEndVhostUser, daemon.FrontEndStream, daemon.FrontEndVfkit, daemon.FrontEndBess}).Draw(t, "front end"),
			OneOff: rapid.Bool().Draw(t, "one-off"),
		},
	}
	if rapid.Bool().Draw(t, "has group") {
		group := rapid.IntRange(0, 1<<31-1).Draw(t, "group")
		c.FrontEnds.SocketGroup = &group
	}
	guests := rapid.IntRange(1, 3).Draw(t, "guests")
	if fd := rapid.IntRange(0, 9).Draw(t, "fd"); guests == 1 && fd > 4 {
		c.FrontEnds.FD = &fd
	} else {
		c.FrontEnds.SocketPaths = rapid.SliceOfN(anyText(), guests, guests).Draw(t, "sockets")
	}
	c.NAT, c.TAP, c.Switch, c.Stub = anyNetwork(t, guests)
	if c.FrontEnds.FD != nil {
		return c
	}
	for range rapid.IntRange(0, 2).Draw(t, "switches") {
		c.Switches = append(c.Switches, daemon.SwitchSettings{
			Name: rapid.OneOf(rapid.Just(""), anyText()).Draw(t, "switch"), Flood: rapid.IntRange(0, 9).Draw(t, "flood"), Ageing: rapid.IntRange(0, 9).Draw(t, "ageing"),
			Uplinks: anyUplinks(t),
		})
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "guests of their own") {
		g := daemon.Guest{SocketPath: fmt.Sprint("/own/", i, anyText().Draw(t, "own socket")), Name: rapid.OneOf(rapid.Just(""), anyText()).Draw(t, "name")}
		if kind := rapid.SampledFrom(append([]string{""}, daemon.FrontEndNames()...)).Draw(t, "own front end"); kind != "" {
			f, _ := daemon.ParseFrontEnd(kind)
			g.FrontEnd = &f
		}
		g.NAT, g.TAP, g.Switch, g.Stub = anyNetwork(t, 1)
		c.Guests = append(c.Guests, g)
	}
	if len(c.Guests) > 0 && rapid.Bool().Draw(t, "nobody shares") {
		c.FrontEnds.SocketPaths, c.NAT, c.TAP, c.Switch, c.Stub = nil, nil, nil, nil, nil
	}
	return c
}

// anyNetwork draws one for so many guests.
func anyNetwork(t *rapid.T, guests int) (*daemon.NAT, *daemon.TAP, *daemon.Switch, *daemon.Stub) {
	switch rapid.IntRange(0, 4).Draw(t, "network") {
	case 0:
		return natConfig(t), nil, nil, nil
	case 1:
		return natConfig(t), nil, switchConfig(t), nil
	case 2:
		return nil, tapConfig(t, guests), nil, nil
	case 3:
		return nil, nil, switchConfig(t), nil
	}
	return nil, nil, nil, &daemon.Stub{Mode: daemon.StubSource, Size: rapid.IntRange(0, 70000).Draw(t, "size"), Sizes: rapid.OneOf(rapid.Just(""), anyText()).Draw(t, "sizes"), Rate: uint64(rapid.Int64Range(0, 1<<62).Draw(t, "rate"))}
}

// switchConfig draws a switch.
func switchConfig(t *rapid.T) *daemon.Switch {
	return &daemon.Switch{
		Name: rapid.OneOf(rapid.Just(""), anyText()).Draw(t, "switch"), Isolated: rapid.Bool().Draw(t, "isolated"), MaxMACs: rapid.IntRange(0, 9).Draw(t, "max-macs"),
		VLANs: tap.VLANs{Access: rapid.Uint16Range(0, 4094).Draw(t, "vlan")},
		IP:    rapid.SampledFrom([][]netip.Prefix{nil, {netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("fe80::/64")}}).Draw(t, "ip"),
		Flood: rapid.IntRange(0, 9).Draw(t, "flood"), Ageing: rapid.IntRange(0, 9).Draw(t, "ageing"),
	}
}

// noGroups knows groups by their numbers only.
func noGroups(text string) (int, error) {
	n, err := number[int]().parse(text)
	if err != nil {
		return 0, errors.New("there is no such group")
	}
	return n, nil
}

func TestWhatIsWrittenIsReadAsTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := anyConfig(t)
		for _, style := range []Style{Short, Commented, Full} {
			text, err := Marshal(&c, style)
			if err != nil {
				t.Fatal(err)
			}
			f, err := Parse("vring.yaml", text, noGroups)
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			if changed, _ := daemon.Compare(&c, &f.Config); len(changed) > 0 {
				t.Fatalf("%v\n%s", changed, text)
			}
			again, err := Marshal(&f.Config, style)
			if err != nil || string(again) != string(text) {
				t.Fatalf("%v\n%s\n%s", err, text, again)
			}
		}
	})
}

func TestATextThatYAMLCannotHaveIsNotWritten(t *testing.T) {
	c := daemon.Config{FrontEnds: daemon.FrontEnds{SocketPaths: []string{"/run/\xff"}}, Stub: &daemon.Stub{Mode: daemon.StubNull}}
	_, err := Marshal(&c, Short)
	require.ErrorContains(t, err, "not in UTF-8")
}

func TestWhatIsByDefaultIsLeftOutOrInComments(t *testing.T) {
	n := daemon.DefaultNAT()
	n.MTU = 9000
	c := daemon.Config{FrontEnds: daemon.FrontEnds{SocketPaths: []string{"/run/a"}}, NAT: &n, Threads: daemon.Threads{Poll: daemon.DefaultPoll}, Log: daemon.Log{Format: daemon.FormatText}}
	short, err := Marshal(&c, Short)
	require.NoError(t, err)
	require.Equal(t, "guests:\n  - socket-path: /run/a\nnat:\n  mtu: 9000\n", string(short))
	commented, err := Marshal(&c, Commented)
	require.NoError(t, err)
	for _, line := range []string{"# poll-us: 50", "# log-level: info", "# log-format: text", "# socket-mode: \"0600\"", "# cpus:", "# sandbox: \"on\"",
		"  # network: 10.0.2.0/24", "  # network6: \"fd00:10:0:2::/64\"", "  mtu: 9000", "  # forwards: []", "  # restrict: false", "  # reconnect-grace: 0s"} {
		require.Contains(t, string(commented), "\n"+line+"\n")
	}
	full, err := Marshal(&c, Full)
	require.NoError(t, err)
	require.Contains(t, string(full), "\npoll-us: 50\n")
	require.Contains(t, string(full), "\n  restrict: false\n")
	require.Contains(t, string(full), "\n  # network6: \"fd00:10:0:2::/64\"\n", "it would be demanded where there is no IPv6")
}

// Each field of the configuration has its key, and nothing else has one.
func TestEachFieldHasItsKey(t *testing.T) {
	set := map[string]bool{}
	for _, k := range allKeys() {
		require.NotEmpty(t, k.about, k.name)
		for _, field := range k.fields {
			set[field] = true
		}
	}
	names := keyNames()
	for _, f := range daemon.Fields() {
		require.True(t, set[f.Path], "%s has no key", f.Path)
		delete(set, f.Path)
		for _, option := range f.Options {
			require.NotEmpty(t, names[string(option)], "messages call %s by --%s, which is no key", f.Path, option)
		}
	}
	require.Empty(t, set, "keys of fields that there are not")
}

// anyUplinks are some uplinks of a switch.
func anyUplinks(t *rapid.T) (all []daemon.Uplink) {
	for range rapid.IntRange(0, 2).Draw(t, "uplinks") {
		u, err := daemon.ParseUplink(rapid.SampledFrom([]string{
			"vxlan://192.0.2.2/42", "vxlan://[2001:db8::2],[2001:db8::3]:4790/1?name=a%26b&local=[2001:db8::1]:4791&vlan=7&trunk=8,10-19",
			"vxlan://192.0.2.2/0?vlans=10:1010,20:1020&mtu=1400&isolated=true&local=0.0.0.0:5000",
		}).Draw(t, "uplink"))
		require.NoError(t, err)
		all = append(all, u)
	}
	return all
}
