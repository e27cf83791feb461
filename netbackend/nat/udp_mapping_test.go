package nat_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
)

// newMappingBench is a bench with two sockets of the host, and one port of the host for each of the guest's.
func newMappingBench(t *testing.T) (b *udpBench, other *udpBench) {
	second := porttest.FreePort(t)
	b = newUDPBench(t, setup{config: func(c *nat.Config) {
		c.EndpointIndependent = true
		c.AllowHost = append(c.AllowHost, spec.HostService{Proto: unix.IPPROTO_UDP, Port: second.Port()})
	}})
	host, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(second))
	require.NoError(t, err)
	t.Cleanup(func() { _ = host.Close() })
	other = &udpBench{bench: b.bench, host: host}
	return b, other
}

func TestAPortOfTheGuestIsOnePortOfTheHost(t *testing.T) {
	b, other := newMappingBench(t)
	before := b.Sockets()
	first, second := b.datagram(1, 100), b.datagram(2, 100)
	second.Dst = netip.AddrPortFrom(b.Gateway, addrPort(other.host.LocalAddr()).Port())
	b.SendDatagram(first)
	b.SendDatagram(second)
	b.Settle()
	b.hostGets([][]byte{first.Payload})
	other.hostGets([][]byte{second.Payload})
	require.Equal(t, b.from, other.from, "the port is the same for both")
	require.Equal(t, before+1, b.Sockets())

	for _, u := range []*udpBench{b, other} {
		_, err := u.host.WriteToUDPAddrPort(numbered(3, 50), u.from)
		require.NoError(t, err)
		u.guestGets([][]byte{numbered(3, 50)})
	}

	third := b.datagram(4, 100)
	third.Src = netip.AddrPortFrom(third.Src.Addr(), 1025)
	b.SendDatagram(third)
	b.Settle()
	from := b.from
	b.hostGets([][]byte{third.Payload})
	require.NotEqual(t, from, b.from, "another port of the guest has another")
	require.Equal(t, before+2, b.Sockets())

	b.Run(4 * time.Minute)
	require.Equal(t, before, b.Sockets(), "silence ends flows, and the last one the socket")
	b.SendDatagram(first)
	b.Settle()
	b.hostGets([][]byte{first.Payload})
}

func TestStrangersAreNotHeard(t *testing.T) {
	b, other := newMappingBench(t)
	b.hello()
	_, err := other.host.WriteToUDPAddrPort([]byte("let me in"), b.from)
	require.NoError(t, err)
	want := numbered(1, 100)
	_, err = b.host.WriteToUDPAddrPort(want, b.from)
	require.NoError(t, err)
	b.guestGets([][]byte{want})
	require.EqualValues(t, 1, b.port.Counters().Strangers)
}

func TestErrorsOfASharedPortFindTheirFlow(t *testing.T) {
	b, other := newMappingBench(t)
	b.hello()
	require.NoError(t, other.host.Close())
	b.Frames()
	d := b.datagram(2, 100)
	d.Dst = netip.AddrPortFrom(b.Gateway, addrPort(other.host.LocalAddr()).Port())
	b.SendDatagram(d)
	f := b.errorsOf(1)[0]
	require.EqualValues(t, 3, f.ICMP.Code)
	requireQuoted(t, &d, f.ICMP.Payload)
	_, err := b.host.WriteToUDPAddrPort(numbered(1, 9), b.from)
	require.NoError(t, err)
	b.guestGets([][]byte{numbered(1, 9)})
}
