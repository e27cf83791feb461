package natguest

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
)

// FreePort returns a port of the host's loopback that is free for TCP and UDP, for somebody to open later, or for nobody.
// It is below the range that the kernel takes ports of outgoing connections from (net.ipv4.ip_local_port_range), so
// none of the connections that tests make gets it in the meantime.
func FreePort(t testing.TB) netip.AddrPort {
	t.Helper()
	const first, last = 16384, 32767
	for range 1000 {
		p := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(first+rand.IntN(last-first+1)))
		if isFree(p) {
			return p
		}
	}
	t.Fatalf("natguest: no port between %d and %d is free", first, last)
	return netip.AddrPort{}
}

func isFree(p netip.AddrPort) bool {
	stream, err := net.Listen("tcp4", p.String())
	if err != nil {
		return false
	}
	defer stream.Close()
	datagrams, err := net.ListenPacket("udp4", p.String())
	if err != nil {
		return false
	}
	return datagrams.Close() == nil
}
