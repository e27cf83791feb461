package nat_test

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/porttest"
)

// halfClosed are connections of which one side has ended: by whom it was begun, and who has ended it.
func halfClosed() map[string]func(t *testing.T) (b *bench, c *porttest.TCP, host net.Conn) {
	guestEnds := func(b *bench, c *porttest.TCP, host net.Conn) {
		c.Close()
		require.NoError(b.t, b.readAll(host).err)
	}
	hostEnds := func(b *bench, c *porttest.TCP, host net.Conn) {
		require.NoError(b.t, host.(interface{ CloseWrite() error }).CloseWrite())
		b.Until("the guest has seen the end", func() bool { return c.FinReceived })
	}
	outbound := func(t *testing.T) (*bench, *porttest.TCP, net.Conn) {
		b := newBench(t, setup{})
		c, host := b.connect()
		return b, c, host
	}
	inbound := func(t *testing.T) (*bench, *porttest.TCP, net.Conn) {
		b, dial := newForward(t, setup{})
		l := b.Listen(80)
		client := dial()
		return b, l.Accept(), client
	}
	unix := func(t *testing.T) (*bench, *porttest.TCP, net.Conn) {
		path := filepath.Join(t.TempDir(), "s")
		b := newBench(t, setup{config: withForward(t, "unix:"+path+":80")})
		b.Resolve()
		l := b.Listen(80)
		client, err := net.Dial("unix", path)
		require.NoError(t, err)
		t.Cleanup(func() { _ = client.Close() })
		return b, l.Accept(), client
	}
	kinds := map[string]func(t *testing.T) (*bench, *porttest.TCP, net.Conn){}
	for name, begin := range map[string]func(t *testing.T) (*bench, *porttest.TCP, net.Conn){
		"outbound": outbound, "inbound": inbound, "unix": unix,
	} {
		for who, end := range map[string]func(*bench, *porttest.TCP, net.Conn){"guest": guestEnds, "host": hostEnds} {
			kinds[name+", the "+who+" has ended its side"] = func(t *testing.T) (*bench, *porttest.TCP, net.Conn) {
				b, c, host := begin(t)
				end(b, c, host)
				b.Settle()
				return b, c, host
			}
		}
	}
	return kinds
}

func TestT69AHalfClosedConnectionThatTheGuestForgotEnds(t *testing.T) {
	for name, begin := range halfClosed() {
		t.Run(name, func(t *testing.T) {
			b, c, _ := begin(t)
			require.Len(t, b.port.Snapshot(b.Now()).Flows, 1)
			c.Forget()
			b.Run(59 * time.Second)
			require.Len(t, b.port.Snapshot(b.Now()).Flows, 1)
			b.Run(20 * time.Second)
			require.Empty(t, b.port.Snapshot(b.Now()).Flows)
			require.Equal(t, map[string]int{"ended_by_guest": 1}, b.endings())
		})
	}
}

func TestT69AHalfClosedConnectionOfASilentGuestIsGivenUp(t *testing.T) {
	for name, begin := range halfClosed() {
		t.Run(name, func(t *testing.T) {
			b, c, _ := begin(t)
			c.Silent = true
			b.Run(14 * time.Minute)
			require.Empty(t, b.port.Snapshot(b.Now()).Flows)
			require.Equal(t, map[string]int{"ended_unacked_by_guest": 1}, b.endings())
		})
	}
}

func TestT69AHalfClosedConnectionLivesForHours(t *testing.T) {
	for name, begin := range halfClosed() {
		t.Run(name, func(t *testing.T) {
			b, c, host := begin(t)
			b.Run(3 * time.Hour)
			require.Equal(t, porttest.Open, c.State)
			if c.FinReceived {
				c.Send([]byte("late"))
				require.Equal(t, "late", string(b.readSome(host, 4)))
				c.Close()
			} else {
				_, err := host.Write([]byte("late"))
				require.NoError(t, err)
				c.WaitFor(4)
				require.NoError(t, host.Close())
			}
			b.Skip("both sides have ended", func() bool { return len(b.port.Snapshot(b.Now()).Flows) == 0 })
			require.Empty(t, b.endings())
		})
	}
}

func TestT69AnIdleConnectionThatTheGuestBeganAndForgotEnds(t *testing.T) {
	b := newBench(t, setup{})
	forgotten, host := b.connect()
	kept, _ := b.connect()
	forgotten.Forget()
	turns := b.Turns()
	b.Run(119 * time.Minute)
	require.Len(t, b.port.Snapshot(b.Now()).Flows, 2)
	require.Less(t, b.Turns()-turns, 5, "an idle guest costs nothing")
	b.Run(65 * time.Minute)
	require.Len(t, b.port.Snapshot(b.Now()).Flows, 1)
	require.ErrorContains(t, b.readAll(host).err, "connection reset")
	b.Run(10 * time.Hour)
	require.Equal(t, porttest.Open, kept.State)
}
