package integration

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/userland"
)

// A guest talks to a machine of the world, whose address the host then gets, as it does when a network for containers is made. The host
// is closed to the guest: what the guest sends must not reach services of the host that listen on all addresses.
func TestAGuestsConversationsEndWhenTheHostGetsTheirAddress(t *testing.T) {
	t.Parallel()
	const (
		address = "203.0.113.9"
		tcpPort = ":9000"
		udpPort = ":9001"
	)
	ctx := limited(t)
	host, world := newHost(t), newHost(t)
	host.wire(fieldWire, world)
	host.run("ip address add "+fieldHost+"/24 dev "+fieldWire, "ip route add default via "+fieldWorld)
	world.run("ip address add "+fieldWorld+"/24 dev "+fieldWire, "ip address add "+address+"/32 dev lo")
	theirs, ours := world.listenPacket(udpPort), host.listenPacket(udpPort)
	server := world.listen(tcpPort)

	vring := startVringWith(t, process.Options{Thread: host.Enter}, "nat")
	g := startGuest(ctx, t, kind{uml: true, userland: userland.Forky}, vring.Socket)
	_, err := g.WaitBoot(ctx)
	require.NoError(t, err)
	require.NoError(t, g.Do(ctx, nil, "dhcp", card))
	g.Start("udp-flood", address+udpPort, 100, guestFromPort)
	const more = 64 << 20 // than goes out while the server does not read
	call := g.Start("tcp-dial", address+tcpPort, more, guestSeed)
	conn, err := server.Accept()
	require.NoError(t, err)
	defer conn.Close()
	require.True(t, receives(t, theirs, soon), "the world gets the guest's datagrams")

	host.run("ip address add " + address + "/32 dev lo")
	vring.waitCounter("withdrawn", 1)
	var got proto.Transfer
	err = call.Wait(ctx, &got)
	require.Error(t, err)
	require.Regexp(t, "connection reset by peer|broken pipe", err.Error(), "whoever reads or writes first learns of the reset")
	for receives(t, ours, time.Millisecond) { // came before vring had the news
	}
	refused := vring.counters().of(t, "denied")
	vring.waitCounter("denied", refused)
	require.False(t, receives(t, ours, 200*time.Millisecond), "the host gets the guest's datagrams")
}

// listen listens for connections to a port of all addresses of the host.
func (h *host) listen(port string) (l net.Listener) {
	h.t.Helper()
	require.NoError(h.t, h.Do(func() (err error) {
		l, err = net.Listen("tcp4", port)
		return err
	}))
	h.t.Cleanup(func() { _ = l.Close() })
	return l
}

// listenPacket is listen for datagrams.
func (h *host) listenPacket(port string) (c net.PacketConn) {
	h.t.Helper()
	require.NoError(h.t, h.Do(func() (err error) {
		c, err = net.ListenPacket("udp4", port)
		return err
	}))
	h.t.Cleanup(func() { _ = c.Close() })
	return c
}

// receives reports whether a datagram is there, or comes in a time.
func receives(t *testing.T, c net.PacketConn, within time.Duration) bool {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(within)))
	_, _, err := c.ReadFrom(make([]byte, 64<<10))
	return err == nil
}
