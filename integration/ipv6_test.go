package integration

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/userland"
)

// router6 is the gateway's link-local address, gateway6 the one by which the guest reaches the host's loopback, and leased6 what
// the guest gets by DHCPv6.
const (
	router6  = "fe80::5055:aff:fe00:202"
	gateway6 = "fd00:10:0:2::2"
	leased6  = "fd00:10:0:2::15"
)

func at6(address string, port int) string { return fmt.Sprintf("[%s]:%d", address, port) }

// measure has the guest measure its link by the services of its router.
func (l *lab) measure(router string) {
	l.t.Helper()
	at := func(port int) string { return net.JoinHostPort(router, strconv.Itoa(port)) }
	const echo, discard, chargen = 7, 9, 19
	var got proto.Transfer
	l.do(&got, "tcp-dial", at(discard), 4*labBytes, guestSeed)
	require.Zero(l.t, got.Bytes)
	l.do(&got, "tcp-dial", at(echo), labBytes, guestSeed)
	requirePattern(l.t, guestSeed, labBytes, got)
	l.do(&got, "tcp-read", at(chargen), labBytes)
	require.Equal(l.t, proto.Sum(bytes.NewReader(characters(labBytes))).SHA256, got.SHA256)
	var echoes proto.Echoes
	for first, last := range map[int]int{1: 16, 1430: 1480, 4000: 4005} { // about what a frame carries, and more
		l.do(&echoes, "udp-dial", at(echo), first, last)
		require.Equal(l.t, proto.Echoes{Sent: last - first + 1, Answered: last - first + 1}, echoes)
	}
}

// characters is the beginning of what chargen sends (RFC 864).
func characters(n int) []byte {
	var all []byte
	for line := 0; len(all) < n; line++ {
		for i := range 72 {
			all = append(all, byte(32+(line+i)%95))
		}
		all = append(all, "\r\n"...)
	}
	return all[:n]
}

// The guest's kernel configures itself by what the router advertises, and everything passes that passes in IPv4.
func TestAGuestSpeaksIPv6(t *testing.T) {
	atOnceOnAll(t, func(t *testing.T, kind kind) {
		server := serveTCPAt(t, "::1", labBytes)
		echo := echoDatagrams(t, "::1", func(net.Addr) {})
		resolver := serveDNS(t, "service.example", netip.MustParseAddr("192.0.2.7"))
		into6, into4, across := freePort(t), freePort(t), freePort(t)
		l := newLab(t, kind, "--measure",
			"--allow-host", fmt.Sprintf("tcp:%d", server.Port), "--allow-host", fmt.Sprintf("udp:%d", echo), "--dns", local(resolver),
			"-p", fmt.Sprintf("[::1]:%d:[%s]:%d", into6, leased6, guestTCPPort),
			"-p", fmt.Sprintf("[::1]:%d:%d", into4, guestTCPPort),
			"-p", fmt.Sprintf("127.0.0.1:%d:[%s]:%d", across, leased6, guestTCPPort))
		var network proto.Network6
		l.do(&network, "slaac", card)
		address := netip.MustParsePrefix(network.Address)
		require.Equal(t, "fd00:10:0:2::/64", address.Masked().String())
		require.Equal(t, router6, network.Router)

		t.Run("streams out", func(t *testing.T) {
			var got proto.Transfer
			l.do(&got, "tcp-dial", at6(gateway6, server.Port), labBytes, guestSeed)
			requirePattern(t, hostSeed, labBytes, got)
			requirePattern(t, guestSeed, labBytes, server.next(l.ctx, t))
		})
		t.Run("a closed port", func(t *testing.T) {
			require.ErrorContains(t, l.guest.Do(l.ctx, nil, "tcp-dial", at6(gateway6, 11), 1, guestSeed), "connection refused")
		})
		t.Run("an address that nobody has", func(t *testing.T) {
			err := l.guest.Do(l.ctx, nil, "tcp-dial", "[fd00:ec2::254]:80", 1, guestSeed)
			require.ErrorContains(t, err, "connection refused", "which is what the policy makes of it")
		})
		t.Run("datagrams of all sizes", func(t *testing.T) {
			const step, longest = 1432, 1452 // about what a frame carries, and more
			for first, last := range map[int]int{1: 64, step: longest, 4000: 4010} {
				var echoes proto.Echoes
				l.do(&echoes, "udp-dial", at6(gateway6, echo), first, last)
				require.Equal(t, proto.Echoes{Sent: last - first + 1, Answered: last - first + 1}, echoes)
			}
		})
		for _, router := range []string{"10.0.2.2", gateway6} {
			t.Run("services to measure with at "+router, func(*testing.T) { l.measure(router) })
		}
		t.Run("pings", func(t *testing.T) {
			for _, to := range []string{gateway6, "fd00:10:0:2::3"} {
				var echoes proto.Echoes
				l.do(&echoes, "ping", to, 3, 1452)
				require.Equal(t, proto.Echoes{Sent: 3, Answered: 3}, echoes)
			}
		})
		t.Run("names", func(t *testing.T) {
			var names proto.Names
			l.do(&names, "resolve", "service.example.", "[fd00:10:0:2::3]:53")
			require.Equal(t, []string{"192.0.2.7"}, names.Addresses)
		})
		t.Run("a lease", func(t *testing.T) {
			var lease proto.Lease6
			l.do(&lease, "dhcp6", card)
			require.Equal(t, proto.Lease6{Address: leased6 + "/64", DNS: []string{"fd00:10:0:2::3"}}, lease)
		})
		for name, from := range map[string]string{
			"streams in":           at6("::1", into6),
			"from IPv6 into IPv4":  at6("::1", into4),
			"from IPv4 into IPv6":  local(across),
			"from IPv4, as always": local(l.forwardTCP),
		} {
			t.Run(name, func(*testing.T) { l.transferBy("tcp", from) })
		}
	}, onQEMU(userland.Forky), onUML(userland.Bookworm))
}
