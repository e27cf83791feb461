package nat_test

import (
	"net"
	"net/netip"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/vringnet/vring/netbackend/porttest"
)

// errnoOf is what Linux makes of the codes of "destination unreachable" (net/ipv4/icmp.c, icmp_err_convert).
var errnoOf = map[uint8]syscall.Errno{
	0: unix.ENETUNREACH, 1: unix.EHOSTUNREACH, 2: unix.ENOPROTOOPT, 3: unix.ECONNREFUSED,
	7: unix.EHOSTDOWN, 8: unix.ENONET, 13: unix.EHOSTUNREACH,
}

// unreachables returns the messages "destination unreachable" among frames.
func unreachables(frames []*porttest.Frame) (list []*porttest.ICMP) {
	for _, f := range frames {
		if f.ICMP != nil && f.ICMP.Type == 3 {
			list = append(list, f.ICMP)
		}
	}
	return list
}

func TestT3ErrorsOfTheHostsConnectAreTheGuestsToo(t *testing.T) {
	if inNamespace(t) {
		return
	}
	neighbour(t, "192.0.2.1/24")
	sysctl(t, "net.ipv4.neigh.near.retrans_time_ms", "50")
	route(t, unix.RTN_UNREACHABLE, "198.51.100.0/24")
	route(t, unix.RTN_PROHIBIT, "203.0.113.0/24")
	for name, c := range map[string]struct {
		to          string
		host, guest syscall.Errno
	}{
		"no route":               {"198.18.0.1:80", unix.ENETUNREACH, unix.ENETUNREACH},
		"a route to nowhere":     {"198.51.100.1:80", unix.EHOSTUNREACH, unix.EHOSTUNREACH},
		"a prohibited route":     {"203.0.113.1:80", unix.EACCES, unix.EHOSTUNREACH}, // no message means EACCES
		"nobody has the address": {"192.0.2.9:80", unix.EHOSTUNREACH, unix.EHOSTUNREACH},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := net.Dial("tcp4", c.to)
			require.ErrorIs(t, err, c.host, "what a program of the host's gets")

			b := newBench(t, setup{})
			b.Resolve()
			conn := b.Dial(at(c.to))
			var told []*porttest.ICMP
			b.Until("the guest is told", func() bool { told = unreachables(b.Frames()); return len(told) > 0 })
			require.Equal(t, c.guest, errnoOf[told[0].Code])
			require.Empty(t, conn.Segments, "no reset")
			require.Zero(t, b.Sockets())
			requireQuotedSYN(t, conn, told[0].Payload)

			b.Frames()
			conn.Forget()
			b.Dial(at(c.to))
			b.Until("another try is told as well", func() bool { return len(unreachables(b.Frames())) > 0 })
		})
	}
}

// requireQuotedSYN checks that the quote leads the guest's kernel to the connection.
func requireQuotedSYN(t *testing.T, c *porttest.TCP, quote []byte) {
	t.Helper()
	ip := header.IPv4(quote)
	require.EqualValues(t, 20, ip.HeaderLength())
	require.True(t, ip.IsChecksumValid())
	require.EqualValues(t, header.TCPProtocolNumber, ip.Protocol())
	require.Equal(t, c.Local.Addr(), netip.AddrFrom4([4]byte(ip.SourceAddressSlice())))
	require.Equal(t, c.Remote.Addr(), netip.AddrFrom4([4]byte(ip.DestinationAddressSlice())))
	require.Len(t, quote, 28)
	tcp := header.TCP(append(quote[20:], make([]byte, 12)...))
	require.Equal(t, c.Local.Port(), tcp.SourcePort())
	require.Equal(t, c.Remote.Port(), tcp.DestinationPort())
	require.Equal(t, c.ISS, tcp.SequenceNumber())
}

func TestT4TheHostsTimeoutIsNotTold(t *testing.T) {
	if inNamespace(t) {
		return
	}
	near, far := neighbour(t, "192.0.2.1/24")
	silent(t, near, far, "192.0.2.9")
	sysctl(t, "net.ipv4.tcp_syn_retries", "1")
	sysctl(t, "net.ipv4.tcp_syn_linear_timeouts", "0")
	b := newBench(t, setup{})
	b.Resolve()
	b.Frames()
	conn := b.Dial(at("192.0.2.9:80"))
	b.Settle()
	require.Equal(t, 1, b.Sockets())
	b.Until("the host gives up", func() bool { return b.Sockets() == 0 })
	require.Empty(t, b.Frames(), "the guest's own patience decides")

	conn.Forget()
	b.Dial(at("192.0.2.9:80"), porttest.TCPOptions{LocalPort: conn.Local.Port(), ISS: conn.ISS})
	b.Settle()
	require.Equal(t, 1, b.Sockets(), "its next SYN is another try")
}

func TestSecondaryAddressesOfTheHostAreClosedToo(t *testing.T) {
	if inNamespace(t) {
		return
	}
	lo := up(t, "lo")
	address(t, lo, "192.0.2.1/24")
	address(t, lo, "192.0.2.2/24") // of the same network: its packets come from the first
	b := newBench(t, setup{})
	b.Resolve()
	for _, to := range []string{"192.0.2.1:80", "192.0.2.2:80", "192.0.2.77:80" /* all of the network is on lo */} {
		c := b.Dial(at(to))
		b.Until("it is refused", func() bool { return c.State == porttest.Refused })
	}
	require.EqualValues(t, 3, b.port.Counters().Denied)
	require.Zero(t, b.port.Counters().TCPFlows)
}

func TestUDPToWhereNoRouteLeads(t *testing.T) {
	if inNamespace(t) {
		return
	}
	b := newBench(t, setup{})
	b.Resolve()
	b.SendDatagram(porttest.Datagram{Src: at("10.0.2.15:1024"), Dst: at("198.18.0.1:9"), Payload: []byte("x")})
	var told []*porttest.ICMP
	b.Until("the guest is told", func() bool { told = unreachables(b.Frames()); return len(told) > 0 })
	require.Equal(t, unix.ENETUNREACH, errnoOf[told[0].Code])
}
