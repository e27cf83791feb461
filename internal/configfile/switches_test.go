package configfile

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/daemon"
)

const switchesFile = `switches:
  - switch-name: lan
    flood: 100
    ageing: 60
  - {switch-name: wan, uplinks: ["vxlan://192.0.2.2/42?trunk=10"]}
guests:
  - {name: a, socket-path: /run/a, switch: lan}
  - {name: b, socket-path: /run/b, switch: {switch-name: wan, vlan: 3}}
`

func TestSwitchesAreSaidOnceAndNamedByGuests(t *testing.T) {
	f, err := Parse("lab.yaml", []byte(switchesFile), noGroups)
	require.NoError(t, err)
	uplink, err := daemon.ParseUplink("vxlan://192.0.2.2/42?trunk=10")
	require.NoError(t, err)
	require.Equal(t, []daemon.SwitchSettings{{Name: "lan", Flood: 100, Ageing: 60}, {Name: "wan", Uplinks: []daemon.Uplink{uplink}}}, f.Config.Switches)
	require.Equal(t, "lan", f.Config.Guests[0].Switch.Name)
	require.NoError(t, validate(compiled(t), []byte(switchesFile)))
	text, err := Marshal(&f.Config, Short)
	require.NoError(t, err)
	require.Contains(t, string(text), "switches:\n  - {switch-name: lan, flood: 100, ageing: 60}\n  - {switch-name: wan, uplinks: [\"vxlan://192.0.2.2/42?trunk=10\"]}\n")
}

func TestWhatIsWrongWithSwitchesHasItsPlace(t *testing.T) {
	for text, want := range map[string]string{
		"switches:\n  - {switch-name: lan, vlan: 3}\nguests:\n  - {socket-path: /a, switch: lan}\n":          `f:2:24: a switch has no key "vlan"`,
		"switches:\n  - {uplinks: [\"vxlan://192.0.2.2/x\"]}\nguests:\n  - {socket-path: /a, switch: lan}\n": "f:2:16: ",
		"switches: lan\nguests:\n  - {socket-path: /a, switch: lan}\n":                                       "f:1:11: switches: want a list",
		"guests:\n  - {socket-path: /a, switch: [lan]}\n":                                                    "f:2:31: switch: want keys with values",
	} {
		_, err := Parse("f", []byte(text), noGroups)
		require.ErrorContains(t, err, want)
	}
}
