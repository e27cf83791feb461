package nat_test

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/porttest"
)

const grace = 30 * time.Second

// newGrace is a bench whose front end is gone, with a connection in each direction.
func newGrace(t *testing.T) (b *bench, out *porttest.TCP, host *net.TCPConn, in *porttest.TCP, client *net.TCPConn) {
	t.Helper()
	b, dial := newForward(t, setup{config: func(c *nat.Config) { c.ReconnectGrace = grace }})
	out, host = b.connect()
	l := b.Listen(80)
	client = dial()
	in = l.Accept()
	b.Disconnect()
	b.Turn()
	b.Run(grace - time.Second)
	require.ErrorContains(t, b.readAll(dial()).err, "connection reset", "nobody is let in meanwhile")
	return b, out, host, in, client
}

func TestT47WithAGraceConnectionsOutliveTheFrontEnd(t *testing.T) {
	b, out, host, in, client := newGrace(t)
	for _, c := range []net.Conn{host, client} {
		_, err := c.Write([]byte("what comes meanwhile waits"))
		require.NoError(t, err)
	}
	b.Settle()
	require.Empty(t, out.Received())
	b.Reconnect(false)
	for _, c := range []*porttest.TCP{out, in} {
		c.WaitFor(len("what comes meanwhile waits"))
		c.Send([]byte("back"))
	}
	require.Equal(t, "back", string(b.readSome(host, 4)))
	require.Equal(t, "back", string(b.readSome(client, 4)))
	b.Run(2 * grace)
	require.Equal(t, porttest.Open, out.State)
	require.Equal(t, porttest.Open, in.State)
}

func TestT47AfterTheGraceConnectionsAreReset(t *testing.T) {
	b, _, host, _, client := newGrace(t)
	b.Run(time.Second + 10*time.Millisecond)
	require.ErrorContains(t, b.readAll(host).err, "connection reset")
	require.ErrorContains(t, b.readAll(client).err, "connection reset")
}

func TestT47AnotherGuestWithinTheGraceKnowsNoConnection(t *testing.T) {
	b, out, host, in, client := newGrace(t)
	out.Forget()
	in.Forget()
	b.Reconnect(true)
	start := b.Now()
	b.Turn()
	b.Settle()
	require.Equal(t, start, b.Now(), "no timer is needed")
	require.ErrorContains(t, b.readAll(host).err, "connection reset")
	require.ErrorContains(t, b.readAll(client).err, "connection reset")
}
