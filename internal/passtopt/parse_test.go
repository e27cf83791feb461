package passtopt

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// plan translates a command line on the recorder's host, with a change of it.
func planOf(t *testing.T, line string, change func(h *Host)) Plan {
	t.Helper()
	o, err := Parse(append([]string{"-s", "s.sock"}, strings.Fields(line)...))
	require.NoError(t, err, line)
	h := recordedHost()
	if change != nil {
		change(&h)
	}
	p, err := o.Translate(h)
	require.NoError(t, err, line)
	return p
}

// What is made of passt's words is a configuration that vring takes.
func TestEachRecordedCommandLineIsAConfiguration(t *testing.T) {
	refused := map[string]bool{"-m 67": true}
	for _, line := range []string{
		"", "-4", "-6", "-m 0", "-a 10.5.0.2", "-a 10.5.0.2 -n 32", "-a 10.5.0.2 -n 31", "-a fd00:5::2", "-g fe80::5", "-i int0", "-i lo", "-D none",
		"--no-map-gw", "--dns-forward 192.0.2.54", "--map-host-loopback 192.0.2.77", "--map-guest-addr 192.0.2.78", "-H guest.example.org", "-H x_y",
		"--fqdn gh.example.org", "--no-tcp --no-udp --no-icmp --no-dhcp --no-dhcpv6 --no-ndp --no-ra", "-t 2222:22 -u %lo/5353 -t ::1/8080",
		"-t 127.0.0.1/~1-60000", "-t 127.0.0.1/8080:192.0.2.9/80", "-t ::1/8080:fd00::9", "-4 -m 576", "-m 67", "--vhost-user -1", "-F 3",
	} {
		p := planOf(t, line, nil)
		if len(p.Config.FrontEnds.SocketPaths) > 0 {
			p.Config.FrontEnds.SocketPaths = []string{t.TempDir() + "/s"}
		}
		_, err := p.Config.Check()
		if refused[line] {
			require.Error(t, err, line)
			continue
		}
		require.NoError(t, err, line)
	}
}

func TestAResolverThatTheGuestCannotReachIsBehindTheRouter(t *testing.T) {
	local := func(h *Host) { h.Resolvers = []netip.Addr{netip.MustParseAddr("127.0.0.53")} }
	for line, want := range map[string]struct{ told, relay string }{
		"-4":             {"192.0.2.1", "192.0.2.1"},
		"-4 --no-map-gw": {"", ""},
		"-4 --no-map-gw --dns-forward 192.0.2.54": {"192.0.2.54", "192.0.2.54"},
		"-4 -D 198.51.100.53":                     {"198.51.100.53", ""},
		"-4 -D none":                              {"", ""},
	} {
		n := planOf(t, line, local).Config.NAT
		require.Equal(t, want.told == "", n.NoNameServers, line)
		if want.told != "" {
			require.Equal(t, []netip.Addr{netip.MustParseAddr(want.told)}, n.NameServers, line)
		}
		require.Equal(t, want.relay == "", n.NoRelay, line)
		if want.relay != "" {
			require.Equal(t, []netip.Addr{netip.MustParseAddr(want.relay)}, n.Relays, line)
		}
	}
	gateway := func(h *Host) { h.Resolvers = []netip.Addr{netip.MustParseAddr("192.0.2.1")} }
	require.Equal(t, []netip.Addr{netip.MustParseAddr("192.0.2.1")}, planOf(t, "-4", gateway).Config.NAT.Relays, "its address leads to the host")
	require.True(t, planOf(t, "-4 --no-map-gw", gateway).Config.NAT.NoRelay, "the router answers itself")
}

// The guest asks a resolver at such an address itself; the rest of these networks stays closed.
func TestOnlyTheResolversOfCloudsAreOpened(t *testing.T) {
	cloud := func(h *Host) { h.Resolvers = []netip.Addr{netip.MustParseAddr("169.254.169.254")} }
	n := planOf(t, "-4", cloud).Config.NAT
	want := spec.Rule{Allow: true, Prefix: netip.MustParsePrefix("169.254.169.254/32"), First: 53, Last: 53}
	require.Equal(t, []spec.Rule{want}, n.Rules)
	require.Empty(t, planOf(t, "-4", nil).Config.NAT.Rules)
	require.Empty(t, planOf(t, "-4 --no-dhcp-dns", cloud).Config.NAT.Rules)
}

func TestTheHostsLoopbackIsAtTheGatewayUnlessItIsClosed(t *testing.T) {
	for line, want := range map[string][]string{
		"":                                {"192.0.2.1=127.0.0.1", "fe80::1=::1"},
		"-4":                              {"192.0.2.1=127.0.0.1"},
		"--no-map-gw":                     nil,
		"--map-host-loopback none":        nil,
		"-4 --map-host-loopback 10.9.9.9": {"10.9.9.9=127.0.0.1"},
		"-4 --map-guest-addr 10.9.9.9":    {"192.0.2.1=127.0.0.1", "10.9.9.9=192.0.2.2"},
	} {
		p := planOf(t, line, nil)
		var got []string
		for _, r := range p.Config.NAT.Redirects {
			got = append(got, r.String())
		}
		require.Equal(t, want, got, line)
		told := slices.ContainsFunc(p.Exceptions, func(n string) bool { return strings.Contains(n, "services of the host's loopback") })
		require.Equal(t, len(want) > 0, told, "the exception is told: %s", line)
	}
}

func TestOptionsThatDoNothingAreSaidToDoNothing(t *testing.T) {
	for line, want := range map[string]string{
		"-c c.sock": "--conf-path is accepted", "--vhost-user --repair-path r": "--repair-path is accepted", "-f --stats 1": "--stats is accepted",
	} {
		require.Contains(t, strings.Join(planOf(t, line, nil).Notes, "\n"), want, line)
	}
	require.Contains(t, strings.Join(planOf(t, "-t 80", nil).Exceptions, "\n"), "open to other machines")
	require.NotContains(t, strings.Join(planOf(t, "-t 127.0.0.1/80", nil).Exceptions, "\n"), "open to other machines")
	require.Len(t, planOf(t, "-c a -c b", nil).Notes, len(planOf(t, "-c a", nil).Notes), "once")
	require.Empty(t, planOf(t, "-p x.pcap -a 10.5.0.2", nil).Notes)
}

func TestTheUserIsTheOneThatIsNamed(t *testing.T) {
	require.Nil(t, planOf(t, "", nil).RunAs)
	for line, want := range map[string]sandbox.User{
		"--runas nobody": {Name: "nobody", UID: 65534, GID: 65534}, "--runas 1000": {Name: "1000", UID: 1000, GID: 1000},
		"--runas 0x10:020": {Name: "0x10", UID: 16, GID: 16}, "--runas nobody:7": {Name: "nobody", UID: 65534, GID: 7},
		"--runas 7:nogroup": {Name: "7", UID: 7, GID: 65534}, "--runas 1 --runas 2": {Name: "2", UID: 2, GID: 2},
	} {
		require.Equal(t, want, *planOf(t, line, nil).RunAs, line)
	}
	for _, user := range []string{"nobodyatall", "root", "0", "", ":7", "7:", "7:0", "7:root", "nobody:none", "-1", "4294967296", "7:2147483648"} {
		o, err := Parse([]string{"--runas", user})
		require.NoError(t, err)
		_, err = o.Translate(recordedHost())
		require.ErrorAs(t, err, new(*Fault), user)
	}
}

// The kernel gives other ports to sockets that ask for any.
func TestAllPortsAreThoseThatTheKernelDoesNotGive(t *testing.T) {
	var got []string
	for _, f := range planOf(t, "-t 127.0.0.1/all -u 127.0.0.1/~1-32766", nil).Config.NAT.Forwards {
		require.True(t, f.Binding.IfFree)
		got = append(got, f.String())
	}
	require.Equal(t, []string{
		"if-free:tcp:127.0.0.1:1-32767:192.0.2.2:1-32767", "if-free:tcp:127.0.0.1:61000-65535:192.0.2.2:61000-65535",
		"if-free:udp:127.0.0.1:32767:192.0.2.2:32767", "if-free:udp:127.0.0.1:61000-65535:192.0.2.2:61000-65535",
	}, got)
}

func TestTheLastOfTwoOptionsCounts(t *testing.T) {
	o, err := Parse(strings.Fields("-q -d -s a -F 3 -m 1 -m 1400 -D none -D 192.0.2.7 --vring-option restrict --vring-option=dns=192.0.2.9"))
	require.NoError(t, err)
	require.True(t, o.Debug)
	require.False(t, o.Quiet)
	require.Equal(t, 3, *o.FD)
	require.Empty(t, o.Socket)
	require.True(t, o.OneOff)
	require.Equal(t, 1400, o.MTU)
	require.Equal(t, []netip.Addr{netip.MustParseAddr("192.0.2.7")}, o.DNS)
	require.Equal(t, []string{"restrict", "dns=192.0.2.9"}, o.Own)
	o, err = Parse(strings.Fields("-F 3 -s a"))
	require.NoError(t, err)
	require.Nil(t, o.FD)
	require.Equal(t, "a", o.Socket)
}

func TestFrontEndsAreOfTheKindThatIsAskedFor(t *testing.T) {
	for line, want := range map[string]daemon.FrontEnd{"": daemon.FrontEndStream, "--vhost-user": daemon.FrontEndVhostUser, "--vh": daemon.FrontEndVhostUser} {
		require.Equal(t, want, planOf(t, line, nil).Config.FrontEnds.Kind, line)
	}
}

func FuzzParse(f *testing.F) {
	for _, line := range []string{
		"-t 127.0.0.1/2222:22,8000-8010,~8005 -u %lo/53", "-a 10.5.0.2/24 -g fe80::1", "-fqd1", "--no-map -m 0x10", "-t [::1]/all:fd00::1", "--fqdn a..b -H \xff",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		o, err := Parse(strings.Fields(line))
		if err != nil || o.Action != Serve {
			return
		}
		p, err := o.Translate(recordedHost())
		if err != nil {
			return
		}
		n := p.Config.NAT
		if len(n.GuestAddresses) == 0 || !n.Network.IsValid() || n.MTU < 0 || n.MTU > maxMTU {
			t.Fatalf("%q gave %+v", line, n)
		}
		for _, fw := range n.Forwards {
			if faults := fw.Check(); fw.Binding.Interface == "" && len(faults) > 0 {
				t.Fatalf("%q gave the forward %s: %v", line, fw, faults)
			}
		}
	})
}

func TestWhatTheGuestSendsLeavesAsItWasSaid(t *testing.T) {
	n := planOf(t, "-o 192.0.2.2 -o 2001:db8::2 --outbound-if4 ext0 --outbound-if6 ext1", nil).Config.NAT
	require.Equal(t, []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2")}, n.OutboundAddresses)
	require.Equal(t, []string{"", "ext0", "ext1"}, []string{n.OutboundInterface, n.OutboundInterface4, n.OutboundInterface6})
}
