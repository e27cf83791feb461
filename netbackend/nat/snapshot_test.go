package nat_test

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/porttest"
)

// onlyFlow returns the one flow that the engine has.
func (b *bench) onlyFlow() nat.FlowInfo {
	b.t.Helper()
	s := b.port.Snapshot(b.Now())
	require.Len(b.t, s.Flows, 1)
	return s.Flows[0]
}

func TestASnapshotTellsOfAConnection(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect()
	c.Send(noise(100_000))
	b.readSome(host, 100_000)
	_, err := host.Write(noise(70_000))
	require.NoError(t, err)
	c.WaitFor(70_000)
	b.Settle() // the last acknowledgement, too
	b.Advance(90 * time.Second)

	f := b.onlyFlow()
	require.GreaterOrEqual(t, f.Age, 90*time.Second)
	f.Age = 0
	require.Equal(t, nat.FlowInfo{
		Proto: unix.IPPROTO_TCP, Guest: c.Local, Remote: b.server,
		Host: addrPort(host.RemoteAddr()), Target: addrPort(host.LocalAddr()),
		State: "open", FromGuest: 100_000, ToGuest: 70_000,
	}, f)

	require.NoError(t, host.CloseWrite())
	b.Until("the guest has seen the end", func() bool { return c.Ended() })
	require.Equal(t, "host-closed", b.onlyFlow().State)
	c.Close()
	b.readAll(host)
	b.Settle()
	require.Empty(t, b.port.Snapshot(b.Now()).Flows)
}

func TestASnapshotTellsOfAForwardedConnection(t *testing.T) {
	b, dial := newForward(t, setup{})
	client := dial()
	b.Listen(80)
	b.Until("it is open", func() bool {
		s := b.port.Snapshot(b.Now())
		return len(s.Flows) == 1 && s.Flows[0].State == "open"
	})
	f := b.onlyFlow()
	require.True(t, f.Inbound)
	require.Equal(t, netip.MustParseAddrPort("10.0.2.15:80"), f.Guest)
	require.Equal(t, "10.0.2.2", f.Remote.Addr().String(), "a client on loopback is seen as the gateway")
	require.Equal(t, addrPort(client.RemoteAddr()), f.Host)
	require.Equal(t, addrPort(client.LocalAddr()), f.Target)
}

func TestASnapshotTellsOfAnAssociation(t *testing.T) {
	b := newBench(t, setup{})
	b.Resolve()
	host := b.listenUDP()
	require.NoError(t, host.SetDeadline(time.Now().Add(time.Minute)))
	b.SendDatagram(porttest.Datagram{Src: netip.MustParseAddrPort("10.0.2.15:1024"), Dst: b.server, Payload: noise(300)})
	b.Settle()
	_, from, err := host.ReadFromUDPAddrPort(make([]byte, 1000))
	require.NoError(t, err)
	_, err = host.WriteToUDPAddrPort(noise(40), from)
	require.NoError(t, err)
	b.Until("the answer", func() bool { return len(b.Datagrams()) > 0 })

	f := b.onlyFlow()
	f.Age = 0
	require.Equal(t, nat.FlowInfo{
		Proto: unix.IPPROTO_UDP, Guest: netip.MustParseAddrPort("10.0.2.15:1024"), Remote: b.server,
		Host: from, Target: addrPort(host.LocalAddr()), State: "associated", FromGuest: 300, ToGuest: 40,
	}, f)
}

func addrPort(a net.Addr) netip.AddrPort { return netip.MustParseAddrPort(a.String()) }

func TestASnapshotTellsWhatIsUsedUp(t *testing.T) {
	b := newBench(t, setup{config: func(c *nat.Config) { c.MaxFlows, c.MaxSockets = 400, 200 }})
	b.Resolve()
	b.connect()
	b.datagrams(7)
	require.Equal(t, []nat.Usage{
		{Name: "flows", Used: 8, Most: 400}, {Name: "sockets", Used: 8, Most: 200},
		{Name: "lingering connections", Most: 100},
		{Name: "unanswered connects", Most: 100}, {Name: "unanswered calls", Most: 100},
		{Name: "associations", Used: 7, Most: 100}, {Name: "peers", Most: 100},
		{Name: "strangers", Most: 100},
		{Name: "queries", Most: 60}, {Name: "name server connections", Most: 4}, {Name: "measuring connections", Most: 128},
	}, slices.DeleteFunc(b.port.Snapshot(b.Now()).Usage, func(u nat.Usage) bool { return u.Name == "KiB of kernel memory" }))
}
