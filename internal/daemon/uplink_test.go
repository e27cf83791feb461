package daemon

import (
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/netbackend/uplink"
)

// behindNATOn is a guest on a switch that is behind NAT, too.
func behindNATOn(dir, name, lan string, change func(*NAT)) Guest {
	n := DefaultNAT()
	if change != nil {
		change(&n)
	}
	return Guest{Name: name, SocketPath: filepath.Join(dir, name+".sock"), Switch: &Switch{Name: lan}, NAT: &n}
}

// given are the addresses of the guests of a configuration, in their order.
func given(t *testing.T, c *Config) (all []string) {
	checked, err := c.Check()
	require.NoError(t, err)
	for _, p := range checked.parts {
		if n, isNAT := p.plan.(*natPlan); isNAT {
			for i := range n.configs {
				all = append(all, n.configs[i].Guest.String())
			}
		}
	}
	return all
}

// Guests of one switch have addresses of one network, whether or not they share their settings; those of another one are no matter.
func TestGuestsOfASwitchHaveAddressesOfTheirOwn(t *testing.T) {
	dir, named := t.TempDir(), func(a string) func(*NAT) {
		return func(n *NAT) { n.GuestAddresses = []netip.Addr{netip.MustParseAddr(a)} }
	}
	c := Config{Threads: Threads{Poll: DefaultPoll}, Guests: []Guest{
		behindNATOn(dir, "a", "lan", nil), behindNATOn(dir, "b", "lan", nil), behindNATOn(dir, "c", "lan", named("10.0.2.17")),
		behindNATOn(dir, "d", "lan", nil), behindNATOn(dir, "e", "other", nil),
	}}
	require.Equal(t, []string{"10.0.2.15", "10.0.2.16", "10.0.2.17", "10.0.2.18", "10.0.2.15"}, given(t, &c))
	checked, err := c.Check()
	require.NoError(t, err)
	others := checked.parts[0].plan.(*natPlan).configs[0].Others
	for _, a := range []string{"10.0.2.16", "10.0.2.17", "10.0.2.18", "fd00:10:0:2::16"} {
		require.Contains(t, others, netip.MustParseAddr(a), "the first guest cannot have what the later ones are promised")
	}

	n := DefaultNAT()
	shared := Config{
		Threads: Threads{Poll: DefaultPoll}, FrontEnds: FrontEnds{SocketPaths: []string{dir + "/1", dir + "/2"}}, NAT: &n, Switch: &Switch{Name: "lan"},
		Guests: []Guest{behindNATOn(dir, "a", "lan", nil)},
	}
	require.Equal(t, []string{"10.0.2.15", "10.0.2.16", "10.0.2.17"}, given(t, &shared))
}

func TestWhatGuestsOfASwitchCannotHaveOfNATIsTold(t *testing.T) {
	address := func(n *NAT) { n.GuestAddresses = []netip.Addr{netip.MustParseAddr("10.0.2.20")} }
	for want, change := range map[string]func(*NAT){
		`network of the switch "lan" is 10.0.2.0/24 for one guest and 10.9.0.0/24 for another`: func(n *NAT) { n.Network = netip.MustParsePrefix("10.9.0.0/24") },
		`router-mac of the switch "lan"`:                                    func(n *NAT) { n.RouterMAC = []byte{2, 0, 0, 0, 0, 9} },
		"queues 2: a guest on a switch has one queue pair":                  func(n *NAT) { n.Queues = 2 },
		"shared-network: guests on a switch have a network of their own":    func(n *NAT) { n.Shared = true },
		`guest-address 10.0.2.20: another guest of the switch "lan" has it`: address,
	} {
		var first func(*NAT)
		if strings.HasPrefix(want, "guest-address") {
			first = address
		}
		c := Config{Guests: []Guest{behindNATOn("/tmp", "a", "lan", first), behindNATOn("/tmp", "b", "lan", change)}}
		_, err := c.Check()
		require.ErrorContains(t, err, want)
	}
}

// A guest that comes later gets an address that no other guest of its switch has, and its name; one that goes leaves both.
func TestAGuestComesToASwitchBehindNATLater(t *testing.T) {
	dir := t.TempDir()
	resolver := func(n *NAT) { n.Resolvers = dns.Plain(netip.MustParseAddrPort("127.0.0.1:9")) }
	c := Config{Threads: Threads{Poll: DefaultPoll}, Sandbox: sandbox.Off, Guests: []Guest{behindNATOn(dir, "a", "lan", resolver), behindNATOn(dir, "b", "lan", resolver)}}
	checked, err := c.Check()
	require.NoError(t, err)
	d, err := Open(checked, Program{Tell: func(Event) {}, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	addresses := func() (all []string) {
		for _, s := range d.all() {
			require.IsType(t, (*uplink.Port)(nil), s.ports[0])
			require.IsType(t, (*nat.Port)(nil), s.engine())
			require.True(t, s.published().OnSwitch)
			all = append(all, s.network.NAT.Guest.String())
		}
		return all
	}
	change := func(edit func(*Config)) error {
		_, err := d.Change(func(c *Config) error { edit(c); return nil })
		return err
	}
	require.Equal(t, []string{"10.0.2.15", "10.0.2.16"}, addresses())
	require.NoError(t, change(func(c *Config) { c.Guests = append(c.Guests, behindNATOn(dir, "c", "lan", resolver)) }))
	require.Equal(t, []string{"10.0.2.15", "10.0.2.16", "10.0.2.17"}, addresses())
	require.NoError(t, change(func(c *Config) { c.Guests = append(c.Guests[:1:1], c.Guests[2]) }))
	require.NoError(t, change(func(c *Config) { c.Guests = append(c.Guests, behindNATOn(dir, "d", "lan", resolver)) }))
	require.ElementsMatch(t, []string{"10.0.2.15", "10.0.2.16", "10.0.2.17"}, addresses(), "what one has left another gets")
	err = change(func(c *Config) {
		c.Guests = append(c.Guests, behindNATOn(dir, "e", "lan", func(n *NAT) {
			resolver(n)
			n.GuestAddresses = []netip.Addr{netip.MustParseAddr("10.0.2.15")}
		}))
	})
	require.ErrorContains(t, err, "10.0.2.15: another guest of the switch")
}
