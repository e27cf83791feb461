package tcpdump

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFramesAndTheirChecksumsAreRead(t *testing.T) {
	frames := Parse(`02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff, ethertype ARP (0x0806), length 42: Ethernet (len 6), IPv4 (len 4), Request who-has 192.0.2.2 tell 192.0.2.1, length 28
02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype IPv4 (0x0800), length 65226: (tos 0x0, ttl 64, id 1, offset 0, flags [DF], proto TCP (6), length 65212)
    192.0.2.1.40000 > 192.0.2.2.5001: Flags [.], cksum 0x1234 (incorrect -> 0x4321), seq 1:65161, ack 1, win 502, length 65160
02:00:00:00:00:02 > 02:00:00:00:00:01, ethertype 802.1Q (0x8100), length 64: vlan 5, p 0, ethertype IPv4 (0x0800), (tos 0x0, ttl 64, proto UDP (17), length 46)
    192.0.2.2.5002 > 192.0.2.1.5003: [udp sum ok] UDP, length 18
`)
	require.Len(t, frames, 3)
	require.Equal(t, 42, frames[0].Length)
	require.Equal(t, "ff:ff:ff:ff:ff:ff", frames[0].To)
	require.Equal(t, "02:00:00:00:00:01", frames[1].From)
	require.Equal(t, 65226, frames[1].Length)
	require.Equal(t, 64, frames[2].Length)
	for i, want := range []struct{ right, wrong bool }{{false, false}, {false, true}, {true, false}} {
		require.Equal(t, want.right, frames[i].ChecksumRight())
		require.Equal(t, want.wrong, frames[i].ChecksumWrong())
	}
}
