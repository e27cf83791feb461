package spec

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHostServices(t *testing.T) {
	addr := netip.MustParseAddr
	for text, want := range map[string]HostService{
		"5201":                 {Proto: protoTCP, Port: 5201},
		"tcp:5201":             {Proto: protoTCP, Port: 5201},
		"udp:53":               {Proto: protoUDP, Port: 53},
		"icmp:192.0.2.1":       {Proto: protoICMP, Addr: addr("192.0.2.1")},
		"tcp:192.0.2.1:443":    {Proto: protoTCP, Addr: addr("192.0.2.1"), Port: 443},
		"udp:[2001:db8::1]:53": {Proto: protoUDP, Addr: addr("2001:db8::1"), Port: 53},
		"icmp:2001:db8::1":     {Proto: protoICMP, Addr: addr("2001:db8::1")},
		"tcp:127.0.0.1:23500":  {Proto: protoTCP, Addr: addr("127.0.0.1"), Port: 23500},
		"[::1]:23500":          {Proto: protoTCP, Addr: addr("::1"), Port: 23500},
	} {
		got, err := ParseHostServices(text)
		require.NoError(t, err)
		require.Equal(t, []HostService{want}, got)
		again, err := ParseHostServices(want.String())
		require.NoError(t, err)
		require.Equal(t, got, again, "it is printed as it is read")
	}
	range3, err := ParseHostServices("udp:192.0.2.1:60000-60002")
	require.NoError(t, err)
	require.Len(t, range3, 3)
	require.Equal(t, HostService{protoUDP, addr("192.0.2.1"), 60002}, range3[2])
	all, err := ParseHostServices("1-65535")
	require.NoError(t, err)
	require.Len(t, all, 65535)
	for _, text := range []string{
		"", "x", "tcp:", "tcp:0", "tcp:1.2.3:80", "icmp:", "icmp:7", "icmp:192.0.2.1:7", "tcp:[::1]", "tcp:[::1]:x",
		"tcp:[fe80::1%lo]:80", "tcp:127.0.0.2:80", "tcp:0.0.0.0:80", "[::]:80", "icmp:127.0.0.1", "icmp:::1", "tcp:224.0.0.1:80", "9-5",
	} {
		_, err := ParseHostServices(text)
		require.Error(t, err, text)
	}
}

func TestServicesOfNeighbouringPortsAreOneText(t *testing.T) {
	for text, want := range map[string][]string{
		"":                                   nil,
		"tcp:80":                             {"tcp:80"},
		"6000-6009":                          {"tcp:6000-6009"},
		"tcp:1-2 tcp:3-4 udp:5":              {"tcp:1-4", "udp:5"},
		"tcp:80 tcp:82 tcp:81":               {"tcp:80", "tcp:82", "tcp:81"},
		"tcp:80 tcp:[::1]:81":                {"tcp:80", "tcp:[::1]:81"},
		"icmp:192.0.2.1 icmp:192.0.2.2":      {"icmp:192.0.2.1", "icmp:192.0.2.2"},
		"tcp:65535 tcp:192.0.2.1:1-2 tcp:80": {"tcp:65535", "tcp:192.0.2.1:1-2", "tcp:80"},
	} {
		read := func(texts []string) (all []HostService) {
			for _, text := range texts {
				services, err := ParseHostServices(text)
				require.NoError(t, err)
				all = append(all, services...)
			}
			return all
		}
		services := read(strings.Fields(text))
		texts := HostServiceTexts(services)
		require.Equal(t, want, texts)
		require.Equal(t, services, read(texts))
	}
}
