package nat_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
)

func TestGuestsGetAddressesInOrderAndTheirForwards(t *testing.T) {
	c := nat.DefaultConfig()
	for _, text := range []string{"8080:80", "2222:10.0.2.16:22", "9000:[fd00:10:0:2::99]:9", "[::1]:22:[fd00:10:0:2::16]:22"} {
		f, err := spec.ParseForward(text)
		require.NoError(t, err)
		c.Forwards = append(c.Forwards, f)
	}
	guests, err := c.ForGuests(3)
	require.NoError(t, err)
	var addrs, forwards [3]string
	for i, g := range guests {
		require.NoError(t, g.Check())
		require.Len(t, g.Others, 4)
		require.NotContains(t, g.Others, g.Guest)
		require.NotContains(t, g.Others, g.Guest6)
		addrs[i] = g.Guest.String() + " " + g.Guest6.String()
		for _, f := range g.Forwards {
			forwards[i] += f.String() + " "
		}
	}
	require.Equal(t, [3]string{
		"10.0.2.15 fd00:10:0:2::15", "10.0.2.16 fd00:10:0:2::16", "10.0.2.17 fd00:10:0:2::17",
	}, addrs)
	require.Equal(t, [3]string{
		"tcp:127.0.0.1:8080:80 tcp:127.0.0.1:9000:[fd00:10:0:2::99]:9 ", // which the first one may have chosen itself
		"tcp:127.0.0.1:2222:10.0.2.16:22 tcp:[::1]:22:[fd00:10:0:2::16]:22 ",
		"",
	}, forwards)
}

func TestAForwardToAGuestThatDoesNotExistIsRefused(t *testing.T) {
	c := nat.DefaultConfig()
	f, err := spec.ParseForward("23022:10.0.2.17:22")
	require.NoError(t, err)
	c.Forwards = []spec.Forward{f}
	_, err = c.ForGuests(1)
	require.ErrorContains(t, err, "no guest has the address 10.0.2.17; the only guest is 10.0.2.15, and each --socket-path adds one")
	_, err = c.ForGuests(2)
	require.ErrorContains(t, err, "guests are 10.0.2.15 to 10.0.2.16")
	_, err = c.ForGuests(3)
	require.NoError(t, err)
}

func TestANetworkHasRoomForSoManyGuests(t *testing.T) {
	for prefix, room := range map[string]int{"10.0.2.0/27": 16, "10.0.2.0/24": 240, "10.9.0.0/16": 65520} {
		c := nat.DefaultConfig()
		require.NoError(t, c.SetNetwork(netip.MustParsePrefix(prefix)))
		guests, err := c.ForGuests(min(room, 300))
		require.NoError(t, err, prefix)
		require.NotEqual(t, c.Guest, guests[len(guests)-1].Guest)
		if room <= 300 {
			_, err = c.ForGuests(room + 1)
			require.ErrorContains(t, err, "has room for")
		}
	}
}

// What a front end leaves with the process (kick, call and error of each ring) is not for flows to have.
func TestDescriptorsOfFrontEndsAreCountedByQueuePairs(t *testing.T) {
	const openFiles, pairs, guests = 4000, 32, 2
	sockets := func(pairs int) int {
		c := nat.DefaultConfig()
		c.MaxSockets, c.Queues = openFiles, pairs
		all, err := c.ForGuests(guests)
		require.NoError(t, err)
		return all[0].MaxSockets
	}
	const leftByFrontEnd = 3 * 2 // for each pair
	require.GreaterOrEqual(t, sockets(1)-sockets(pairs), (pairs-1)*leftByFrontEnd)
	require.LessOrEqual(t, guests*(sockets(pairs)+pairs*leftByFrontEnd), openFiles)

	few := nat.DefaultConfig()
	few.MaxSockets, few.Queues = 400-64, pairs // ulimit -n 400
	all, err := few.ForGuests(guests)
	require.NoError(t, err)
	require.ErrorContains(t, all[0].Check(), "raise its limit (ulimit -n, or LimitNOFILE= of the systemd unit)")
}

// A guest that takes another one's address neither gets through with it, nor reaches it, nor hears answers.
func TestAGuestCannotUseOrReachTheAddressOfAnother(t *testing.T) {
	other, other6 := netip.MustParseAddr("10.0.2.16"), netip.MustParseAddr("fd00:10:0:2::16")
	b := newBench(t, setup{config: func(c *nat.Config) { c.Others = []netip.Addr{other, other6} }})
	b.Resolve()
	c := b.Dial(netip.AddrPortFrom(other, 80))
	b.Until("it is refused", func() bool { return c.State == porttest.Refused })
	require.Zero(t, b.Sockets())

	own := b.IP
	b.IP = other
	b.Frames()
	stolen := b.Dial(b.server)
	b.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(other, 1), Dst: b.server, Payload: []byte("x")})
	b.SendICMP(b.Gateway, porttest.ICMP{Type: 8})
	b.Settle()
	require.Empty(t, b.Frames())
	require.Zero(t, b.Sockets())
	require.Equal(t, uint64(3), b.port.Counters().Impostors)
	stolen.Forget()

	// Nor in IPv6, nor in fragments.
	b.SendICMP(b.Gateway6, porttest.ICMP{Type: 128}) // its own address; with it the router is advertised
	b.Settle()
	b.Frames()
	for _, d := range []porttest.Datagram{
		{Src: netip.AddrPortFrom(other, 1), Dst: b.server, Payload: noise(3000)},
		{Src: netip.AddrPortFrom(other6, 1), Dst: netip.AddrPortFrom(b.Gateway6, b.server.Port()), Payload: noise(3000)},
	} {
		for _, fragment := range d.Cut(1, 1448) {
			b.SendFragment(fragment)
		}
	}
	b.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(other6, 1), Dst: at("[fd00:10:0:2::2]:9"), Payload: []byte("x")})
	b.Settle()
	require.Empty(t, b.Frames())
	require.Zero(t, b.Sockets())
	require.Equal(t, uint64(6), b.port.Counters().Impostors)

	b.IP = own
	b.connect() // its own address is as good as before
}
