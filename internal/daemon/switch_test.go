package daemon

import (
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/tap"
)

// onSwitch is a guest on a switch.
func onSwitch(dir, name string, s Switch) Guest {
	return Guest{Name: name, SocketPath: filepath.Join(dir, name+".sock"), Switch: &s}
}

func TestGuestsThatNameASwitchAreOnIt(t *testing.T) {
	dir := t.TempDir()
	c := Config{Threads: Threads{Poll: DefaultPoll}, Sandbox: sandbox.Off, Guests: []Guest{
		onSwitch(dir, "a", Switch{Name: "lan", Flood: 100}), onSwitch(dir, "b", Switch{Name: "lan", Ageing: 60}), onSwitch(dir, "c", Switch{}),
	}}
	checked, err := c.Check()
	require.NoError(t, err)
	d, err := Open(checked, Program{Tell: func(Event) {}, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	require.Len(t, d.switches, 2)
	said := d.switches["lan"].said
	require.Equal(t, []int{100, 60}, []int{said.Flood, said.Ageing}, "what is said of a switch holds for all")
	require.Equal(t, []Kind{KindSwitch, KindSwitch, KindSwitch}, []Kind{d.all()[0].kind(), d.all()[1].kind(), d.all()[2].kind()})

	_, err = d.switches.get(&Switch{Name: "lan", Flood: 100})
	require.NoError(t, err)
	_, err = d.switches.get(&Switch{Name: "lan", Flood: 101})
	require.ErrorContains(t, err, `flood of the switch "lan" is 100 for one guest and 101 for another`)
	_, err = d.switches.get(&Switch{Name: "other"})
	require.NoError(t, err)
	require.Len(t, d.switches, 3)
}

// What is said of a whole switch holds for its guests, and for those that come to it later.
func TestASwitchHasWhatIsSaidOfItOnce(t *testing.T) {
	c := Config{Threads: Threads{Poll: DefaultPoll}, Sandbox: sandbox.Off, Switches: []SwitchSettings{{Name: "lan", Flood: 100}, {Name: "empty", Ageing: 7}},
		Guests: []Guest{onSwitch(t.TempDir(), "a", Switch{Name: "lan", Ageing: 60})}}
	checked, err := c.Check()
	require.NoError(t, err)
	d, err := Open(checked, Program{Tell: func(Event) {}, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	lan := d.switches["lan"].said
	require.Equal(t, []int{100, 60}, []int{lan.Flood, lan.Ageing})
	require.Equal(t, 7, d.switches["empty"].said.Ageing)
	_, err = d.switches.get(&Switch{Name: "empty", Ageing: 8})
	require.ErrorContains(t, err, `ageing of the switch "empty" is 7`)
}

func TestWhatIsWrongWithASwitchIsTold(t *testing.T) {
	mac, bound := net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}, []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}
	for want, c := range map[string]Config{
		"is 1 for one guest and 2 for another": {Guests: []Guest{onSwitch("/tmp", "a", Switch{Flood: 1}), onSwitch("/tmp", "b", Switch{Flood: 2})}},
		"is 3 for one guest and 2 for another": {Switches: []SwitchSettings{{Flood: 3}}, Guests: []Guest{onSwitch("/tmp", "a", Switch{Flood: 2})}},
		`switch-name "lan" is given twice`:     {Switches: []SwitchSettings{{Name: "lan"}, {Name: "lan"}}},
		`switch-name "a b"`:                    {Switches: []SwitchSettings{{Name: "a b"}}},
		"flood":                                {Switches: []SwitchSettings{{Flood: -1}}},
		"2 guests cannot have one address":     {FrontEnds: FrontEnds{SocketPaths: []string{"/tmp/a", "/tmp/b"}}, Switch: &Switch{MAC: mac}},
		"VLAN 5000: want 1 to 4094":            {Guests: []Guest{onSwitch("/tmp", "a", Switch{VLANs: tap.VLANs{Access: 5000}})}},
		"needs no limit of how many":           {Guests: []Guest{onSwitch("/tmp", "a", Switch{MAC: mac, MaxMACs: 2})}},
		"is no address of one interface":       {Guests: []Guest{onSwitch("/tmp", "a", Switch{MAC: net.HardwareAddr{1, 0, 0, 0, 0, 0}})}},
		"ip 192.0.2.1: 2 guests cannot":        {FrontEnds: FrontEnds{SocketPaths: []string{"/tmp/a", "/tmp/b"}}, Switch: &Switch{IP: bound}},
		"65 addresses of IP":                   {Guests: []Guest{onSwitch("/tmp", "a", Switch{IP: slices.Repeat(bound, 65)})}},
		"address of IP is not valid":           {Guests: []Guest{onSwitch("/tmp", "a", Switch{IP: make([]netip.Prefix, 1)})}},
		"want 6 bytes":                         {Guests: []Guest{onSwitch("/tmp", "a", Switch{MAC: mac[:5]})}},
		"switch-name":                          {Guests: []Guest{onSwitch("/tmp", "a", Switch{Name: "a b"})}},
		"ageing":                               {Guests: []Guest{onSwitch("/tmp", "a", Switch{Ageing: -1})}},
	} {
		_, err := c.Check()
		require.ErrorContains(t, err, want)
	}
}

// Two guests cannot be bound to one address, and nothing of either is left open.
func TestAGuestIsNotOpenedWithTheAddressOfAnother(t *testing.T) {
	dir, mac := t.TempDir(), net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}
	c := Config{Threads: Threads{Poll: DefaultPoll}, Sandbox: sandbox.Off, Guests: []Guest{onSwitch(dir, "a", Switch{MAC: mac}), onSwitch(dir, "b", Switch{MAC: mac})}}
	checked, err := c.Check()
	require.NoError(t, err)
	_, err = Open(checked, Program{Tell: func(Event) {}, Log: slog.New(slog.DiscardHandler)})
	require.ErrorContains(t, err, "52:54:00:00:00:01 is another port's address")
}

func TestAPortHasTheVLANsThatWereNamed(t *testing.T) {
	s := Switch{VLANs: tap.VLANs{Access: 3, Trunk: []tap.VLANRange{{First: 2, Last: 5}, {First: 4094, Last: 4094}}}}
	require.Equal(t, []uint16{2, 4, 5, 4094}, s.port().Tagged, "frames of one VLAN have tags or have none")
}
