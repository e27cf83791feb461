package nat_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
)

// scan lets the guest send a datagram each to n ports that nobody has been sent to, from the i-th on.
func (b *bench) scan(i, n int) {
	for ; n > 0; n-- {
		b.SendDatagram(porttest.Datagram{
			Src: at("10.0.2.15:1024"), Dst: netip.AddrPortFrom(netip.MustParseAddr("198.18.0.1"), uint16(1024+i)), Payload: []byte("x"),
		})
		if i++; n%64 == 0 {
			b.Settle()
		}
	}
	b.Settle()
}

// darkNetwork routes 198.18.0.0/15 to where nobody answers.
func darkNetwork(t *testing.T) {
	t.Helper()
	link, far := neighbour(t, "192.0.2.1/24")
	silent(t, link, far, "192.0.2.9")
	dst, err := netlink.ParseIPNet("198.18.0.0/15")
	require.NoError(t, err)
	require.NoError(t, netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, Gw: net.IPv4(192, 0, 2, 9)}))
}

// withNewFlows is a setup in which so many flows may be begun at once that nobody answers.
func withNewFlows(n int) setup {
	return setup{config: func(c *nat.Config) { c.Kernel.UnansweredFlows = n }}
}

func TestFlowsThatNobodyAnswersHaveARate(t *testing.T) {
	if inNamespace(t) {
		return
	}
	permitPings(t)
	darkNetwork(t)
	const burst, rate = 100, 500
	b := newBench(t, withNewFlows(burst))
	b.Resolve()
	counters := b.port.Counters
	b.scan(0, burst-10)
	require.EqualValues(t, burst-10, counters().UDPFlows)
	require.Zero(t, counters().NewFlowsOverRate)
	b.scan(burst-10, 30)
	require.EqualValues(t, burst, counters().UDPFlows)
	require.EqualValues(t, 20, counters().NewFlowsOverRate)
	b.Frames()
	c := b.Dial(at("198.18.0.1:80"))
	b.echo("198.18.0.1", 1, 1, []byte("x"))
	b.Settle()
	require.EqualValues(t, 22, counters().NewFlowsOverRate, "connects and pings are flows, too")
	require.Empty(t, unreachables(b.Frames()))
	require.Equal(t, porttest.SynSent, c.State, "its SYN comes again")

	b.Advance(50 * time.Millisecond)
	b.echo("198.18.0.1", 1, 2, []byte("x"))
	b.scan(burst+20, 2*burst)
	require.EqualValues(t, 1, counters().PingFlows)
	require.EqualValues(t, burst+rate/20-1, counters().UDPFlows, "what was saved in the meantime passes, and no more")
	b.Until("its SYN comes again", func() bool { return counters().TCPFlows == 1 })
}

// answered lets the guest send a datagram from one of its ports to the host's, which answers the one that came first by each of the
// payloads. It returns the port of the host that was answered.
func (b *udpBench) answered(port uint16, answers ...[]byte) (from netip.AddrPort) {
	b.t.Helper()
	b.sendFrom(port)
	b.Settle()
	buf := make([]byte, 100)
	require.NoError(b.t, b.host.SetReadDeadline(time.Now().Add(time.Minute)))
	_, from, err := b.host.ReadFromUDPAddrPort(buf)
	require.NoError(b.t, err)
	for _, a := range answers {
		_, err = b.host.WriteToUDPAddrPort(a, from)
		require.NoError(b.t, err)
	}
	b.Settle() // and not Until, which lets time pass
	require.Len(b.t, b.Datagrams(), len(answers))
	return from
}

// sendFrom lets the guest send a datagram from one of its ports to the host's.
func (b *udpBench) sendFrom(port uint16) {
	b.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(b.IP, port), Dst: b.server, Payload: []byte("x")})
}

func TestFlowsThatAreAnsweredHaveNoRate(t *testing.T) {
	if inNamespace(t) {
		return
	}
	permitPings(t)
	neighbour(t, "192.0.2.1/24")
	const burst, many = 3, 10
	b := newUDPBench(t, setup{config: func(c *nat.Config) {
		c.Kernel.UnansweredFlows = burst
		c.AllowHost = append(c.AllowHost, spec.HostService{Proto: icmp, Addr: netip.MustParseAddr("192.0.2.1")})
	}})
	for i := range uint16(many) {
		b.answered(2000+i, []byte("x"))
		b.connect()
		b.echo("192.0.2.1", i, 1, []byte("x"))
		b.reply()
	}
	require.Zero(t, b.port.Counters().NewFlowsOverRate)
}

func TestAnAnswerCountsOnce(t *testing.T) {
	const burst, half = 100, 50
	b := newUDPBench(t, withNewFlows(burst))
	for i := range uint16(half) {
		b.sendFrom(1000 + i)
	}
	b.answered(2000, make([][]byte, half)...) // not one byte in any
	for i := range uint16(burst) {
		b.sendFrom(3000 + i)
	}
	b.Settle()
	require.EqualValues(t, burst+1, b.port.Counters().UDPFlows)
}
