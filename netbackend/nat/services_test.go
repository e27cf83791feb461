package nat_test

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
)

// unreachable tells whether an ICMP message "port unreachable" is among frames (RFC 792, RFC 4443).
func unreachable(frames []*porttest.Frame) bool {
	return slices.ContainsFunc(frames, func(f *porttest.Frame) bool {
		kind, code := uint8(3), uint8(3)
		if f.Src.Is6() {
			kind, code = 1, 4
		}
		return f.ICMP != nil && f.ICMP.Type == kind && f.ICMP.Code == code
	})
}

func TestADatagramToAClosedPortComesBackAsUnreachable(t *testing.T) {
	to := porttest.FreePort(t)
	b := newBench(t, setup{config: func(c *nat.Config) {
		c.AllowHost = []spec.HostService{{Proto: unix.IPPROTO_UDP, Port: to.Port()}}
	}})
	b.Resolve()
	for name, dst := range map[string]netip.AddrPort{
		"nobody listens":        netip.AddrPortFrom(b.server.Addr(), to.Port()),
		"the policy is against": netip.AddrPortFrom(b.server.Addr(), 9),
	} {
		t.Run(name, func(t *testing.T) {
			b.SendDatagram(porttest.Datagram{Src: netip.MustParseAddrPort("10.0.2.15:1024"), Dst: dst, Payload: []byte("x")})
			b.Until("an ICMP message", func() bool { return unreachable(b.Frames()) })
		})
	}
}

func TestTheFirstDenialNamesTheFlagThatOpens(t *testing.T) {
	b := newBench(t, setup{})
	b.Resolve()
	for range 3 {
		c := b.Dial(netip.MustParseAddrPort("10.0.2.2:22"))
		b.Until("refused", func() bool { return c.State == porttest.Refused })
	}
	require.Len(t, b.Notices(), 1, "the rest is counted only")
	require.Contains(t, b.Notices()[0].Message, "--allow-host tcp:22")
	require.EqualValues(t, 3, b.port.Counters().Denied)
}

func TestAnEchoRequestToTheGatewayIsAnswered(t *testing.T) {
	b := newBench(t, setup{})
	b.Resolve()
	b.SendICMP(netip.MustParseAddr("10.0.2.2"), porttest.ICMP{Type: 8, Rest: 0x00010002, Payload: noise(1400)})
	var reply *porttest.ICMP
	b.Until("the reply", func() bool {
		for _, f := range b.Frames() {
			if f.ICMP != nil {
				reply = f.ICMP
			}
		}
		return reply != nil
	})
	require.Zero(t, reply.Type)
	require.EqualValues(t, 0x00010002, reply.Rest, "identifier and sequence number come back")
	requireSame(t, noise(1400), reply.Payload)
}

func TestForwardedDatagramsFindTheirWayBack(t *testing.T) {
	host := porttest.FreePort(t)
	b := newBench(t, setup{config: func(c *nat.Config) {
		f, err := spec.ParseForward("udp:" + host.String() + ":7")
		require.NoError(t, err)
		c.Forwards = []spec.Forward{f}
	}})
	b.Resolve()
	clients := make([]net.Conn, 3)
	for i := range clients {
		var err error
		clients[i], err = net.Dial("udp4", host.String())
		require.NoError(t, err)
		defer clients[i].Close()
		_, err = clients[i].Write([]byte{byte(i)})
		require.NoError(t, err)
	}
	answered := 0
	b.Until("all are answered", func() bool {
		for _, d := range b.Datagrams() {
			require.Equal(t, "10.0.2.15:7", d.Dst.String())
			require.Equal(t, "10.0.2.2", d.Src.Addr().String(), "loopback clients are seen behind the gateway")
			b.SendDatagram(porttest.Datagram{Src: d.Dst, Dst: d.Src, Payload: append(d.Payload, 'r')})
			answered++
		}
		return answered == len(clients)
	})
	b.Turn()
	for i, c := range clients {
		buf := make([]byte, 10)
		n, err := c.Read(buf)
		require.NoError(t, err)
		require.Equal(t, []byte{byte(i), 'r'}, buf[:n])
	}
}

func TestForwardedDatagramsForAnUnknownGuestAskForIt(t *testing.T) {
	host := porttest.FreePort(t)
	b := newBench(t, setup{config: func(c *nat.Config) {
		f, err := spec.ParseForward("udp:" + host.String() + ":7")
		require.NoError(t, err)
		c.Forwards = []spec.Forward{f}
	}})
	client, err := net.Dial("udp4", host.String())
	require.NoError(t, err)
	defer client.Close()
	_, err = client.Write([]byte("lost"))
	require.NoError(t, err)
	b.Until("an ARP request", func() bool { return b.port.Counters().NoGuest == 1 })
	b.Settle()
	_, err = client.Write([]byte("carried"))
	require.NoError(t, err)
	var got []*porttest.Datagram
	b.Until("the guest is known by its answer", func() bool { got = append(got, b.Datagrams()...); return len(got) > 0 })
	require.Equal(t, "carried", string(got[0].Payload))
}
