package daemon

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUplinksAreWrittenAsTheyAreRead(t *testing.T) {
	for text, want := range map[string]string{
		"vxlan://192.0.2.2/42":                    "",
		"vxlan://192.0.2.2:4789/42":               "vxlan://192.0.2.2/42",
		"vxlan://2001:db8::2/42":                  "vxlan://[2001:db8::2]/42",
		"vxlan://[2001:db8::2]:1,[2001:db8::3]/0": "",
		"vxlan://192.0.2.2/42?name=site%26b&local=192.0.2.1&vlan=7&trunk=8,10-19&mtu=1400&isolated=true": "",
		"vxlan://192.0.2.2/42?vlans=10:1010,20:1020&isolated=false":                                      "vxlan://192.0.2.2/42?vlans=10:1010,20:1020",
		"vxlan://192.0.2.2/42?local=0.0.0.0:5000":                                                        "",
	} {
		u, err := ParseUplink(text)
		require.NoError(t, err, text)
		if want == "" {
			want = text
		}
		require.Equal(t, want, u.String())
		again, err := ParseUplink(u.String())
		require.NoError(t, err)
		require.Equal(t, u, again)
	}
}

func TestWhatIsWrongWithAnUplinkIsTold(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "want vxlan://ADDRESS",
		"udp://192.0.2.2/4":             "want vxlan://ADDRESS",
		"vxlan://192.0.2.2":             "want a VNI from 0 to 16777215 behind a slash",
		"vxlan://192.0.2.2/16777216":    "want a VNI",
		"vxlan:///4":                    `"" is no address`,
		"vxlan://host/4":                `"host" is no address`,
		"vxlan://fe80::1%eth0/4":        "is no address",
		"vxlan://192.0.2.2/4?vlan=0":    "vlan=0: want 1 to 4094",
		"vxlan://192.0.2.2/4?trunk=x":   `VLANs "x"`,
		"vxlan://192.0.2.2/4?vlans=1":   "want VLANs and their VNIs",
		"vxlan://192.0.2.2/4?mtu=67":    "mtu=67: want 68 to 65535",
		"vxlan://192.0.2.2/4?local=x":   "local=x: want an address of this host",
		"vxlan://192.0.2.2/4?ttl=7":     `no setting "ttl"`,
		"vxlan://192.0.2.2/4?isolated=": "want true or false",
		"vxlan://192.0.2.2/4?%zz":       "invalid URL escape",
	} {
		_, err := ParseUplink(text)
		require.ErrorContains(t, err, want, text)
	}
}

func TestUplinksThatCannotBeTogetherAreTold(t *testing.T) {
	dir := t.TempDir()
	for want, texts := range map[string][]string{
		"another uplink has this local address":    {"vxlan://192.0.2.2/1", "vxlan://192.0.2.3/2"},
		"another uplink has this local address ":   {"vxlan://192.0.2.2/1?local=192.0.2.1", "vxlan://192.0.2.3/2"},
		"trunk and vlans exclude each other":       {"vxlan://192.0.2.2/1?trunk=7&vlans=10:2"},
		"VLAN 10 is with tags and without":         {"vxlan://192.0.2.2/1?vlan=10&vlans=10:2"},
		"one version of IP":                        {"vxlan://192.0.2.2,[2001:db8::1]/1"},
		"two guests are called same":               {"vxlan://192.0.2.2/1?name=same", "vxlan://192.0.2.2/1?name=same&local=192.0.2.1:9"},
		"VNI 5 is the network of two VLANs":        {"vxlan://192.0.2.2/5?vlans=10:5"},
		"want the address of one host; a group ne": {"vxlan://239.1.1.1/5"},
	} {
		s := SwitchSettings{}
		for _, text := range texts {
			u, err := ParseUplink(text)
			require.NoError(t, err)
			s.Uplinks = append(s.Uplinks, u)
		}
		c := Config{FrontEnds: FrontEnds{SocketPaths: []string{dir + "/a"}}, Switch: &Switch{}, Switches: []SwitchSettings{s}}
		_, err := c.Check()
		require.ErrorContains(t, err, want)
	}
}
