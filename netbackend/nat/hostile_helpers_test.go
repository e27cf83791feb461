package nat_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
)

// The tests in files named hostile_* send what once broke other engines, numbered S1 to S16 (libslirp), P1 to P8
// (passt), G1 to G4 (gvisor-tap-vsock and gVisor) and A1 to A3 (others). Beside each runs a good connection, which must
// not notice. Rows that are not here concern what the engine does not have: IPv6 (S11), framing of a stream (G1), an API
// (A1), or belong to the vhost-user side (A3). Those of TFTP (S10, S14) are with its packages.

// hostile is a bench with a good connection, and a UDP echo service on the host.
type hostile struct {
	*bench
	good    *porttest.TCP
	host    *net.TCPConn
	echo    netip.AddrPort // as the guest names it
	sockets int            // that the good connection needs
}

func newHostile(t *testing.T, s setup) *hostile {
	t.Helper()
	port := echoDatagrams(t)
	inner := s.config
	s.config = func(c *nat.Config) {
		c.AllowHost = append(c.AllowHost, spec.HostService{Proto: udp, Port: port})
		if inner != nil {
			inner(c)
		}
	}
	b := newBench(t, s)
	h := &hostile{bench: b, echo: netip.AddrPortFrom(b.server.Addr(), port)}
	h.good, h.host = b.connect()
	h.sockets = b.Sockets()
	t.Cleanup(h.goodGoesOn)
	return h
}

// echoDatagrams opens a UDP port of the host that returns what it gets.
func echoDatagrams(t testing.TB) uint16 {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	go func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

// goodGoesOn moves data over the good connection, both ways.
func (h *hostile) goodGoesOn() {
	h.t.Helper()
	const size = 20_000
	h.Settle()
	h.good.Read()
	h.good.Send(noise(size))
	requireSame(h.t, noise(size), h.readSome(h.host, size))
	_, err := h.host.Write(noise(size))
	require.NoError(h.t, err)
	h.good.WaitFor(size)
	requireSame(h.t, noise(size), h.good.Read())
}

// counted sends frames by f, and requires that exactly n more are counted by counter, and none answered.
func (h *hostile) counted(n uint64, counter func(nat.Counters) uint64, f func()) {
	h.t.Helper()
	h.Settle()
	h.Frames()
	before := counter(h.port.Counters())
	f()
	h.Settle()
	require.Equal(h.t, n, counter(h.port.Counters())-before, "%+v", h.port.Counters())
	require.Empty(h.t, h.Frames(), "no answer")
	require.Equal(h.t, h.sockets, h.Sockets(), "no socket is left")
}

// answered sends d to the echo service and requires it back.
func (h *hostile) answered(send func(), want []byte) {
	h.t.Helper()
	h.Datagrams()
	send()
	var got []*porttest.Datagram
	h.Until("the echo service's answer", func() bool { got = append(got, h.Datagrams()...); return len(got) > 0 })
	require.Equal(h.t, h.echo, got[0].Src)
	requireSame(h.t, want, got[0].Payload)
}

// Names of the counters that hostile frames raise.
func malformed(c nat.Counters) uint64      { return c.Malformed }
func badHeader(c nat.Counters) uint64      { return c.BadHeader }
func badAddress(c nat.Counters) uint64     { return c.BadAddress }
func unsupported(c nat.Counters) uint64    { return c.Unsupported }
func otherProtocols(c nat.Counters) uint64 { return c.OtherProtocols }
func multicast(c nat.Counters) uint64      { return c.Multicast }
func broadcast(c nat.Counters) uint64      { return c.Broadcast }
func overlaps(c nat.Counters) uint64       { return c.FragmentOverlaps }

// leastOffers returns what the engine offers on a host whose kernel cuts no messages into datagrams and puts none together.
func leastOffers(t *testing.T) uint64 {
	cfg := nat.DefaultConfig()
	cfg.UDPSegment, cfg.UDPGRO = false, false
	p, err := nat.New(cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	return p.Offers()
}
