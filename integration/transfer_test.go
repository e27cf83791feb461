package integration

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/userland"
)

// So many transfers run at once, and each side sends so much in each of them.
const (
	connections   = 8
	transferBytes = 16 << 20
)

func TestEightTransfersAtOnceEachWay(t *testing.T) {
	atOnceOnEach(t, func(t *testing.T, kind kind) {
		server := serveTCP(t, transferBytes)
		l := newLab(t, kind, "--allow-host", fmt.Sprintf("tcp:%d", server.Port))
		t.Run("out of the guest", func(t *testing.T) { l.requireEightOut(t, server) })
		t.Run("through a forward", l.requireEightIn)
	})
}

func (l *lab) requireEightOut(t *testing.T, server *tcpService) {
	var calls [connections]*guest.Call
	for i := range calls {
		calls[i] = l.guest.Start("tcp-dial", viaGateway(server.Port), transferBytes, guestSeed)
	}
	for _, call := range calls {
		var got proto.Transfer
		require.NoError(t, call.Wait(l.ctx, &got))
		requirePattern(t, hostSeed, transferBytes, got)
		require.Equal(t, proto.Timestamps|proto.SACK|proto.WindowScale, got.Options, "as Linux offers them")
		requirePattern(t, guestSeed, transferBytes, server.next(l.ctx, t))
	}
}

func (l *lab) requireEightIn(t *testing.T) {
	listen := l.guest.Start("tcp-listen", guestTCPPort, transferBytes, guestSeed, connections)
	require.NoError(t, listen.Event(l.ctx, nil))
	done := make(chan transferred, connections)
	for range connections {
		conn := dial(l.ctx, t, "tcp4", l.forwardTCP)
		go func() { done <- exchange(conn, transferBytes) }()
	}
	for range connections {
		var got proto.Transfer
		require.NoError(t, listen.Event(l.ctx, &got))
		requirePattern(t, hostSeed, transferBytes, got)
		require.Equal(t, proto.SACK|proto.WindowScale, got.Options, "as vring offers them")
		end := <-done
		require.NoError(t, end.err)
		requirePattern(t, guestSeed, transferBytes, end.got)
	}
	require.NoError(t, listen.Wait(l.ctx, nil))
}

// largestDatagram is the payload that fits one frame at MTU 1500.
const largestDatagram = 1472

// What needs no connection, in one guest: datagrams of all sizes, many of them by one system call, pings, and names.
func TestDatagramsPingsAndNames(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, kind kind) {
		runs4, runs6 := answerRuns(t, "127.0.0.1"), answerRuns(t, "::1")
		resolver := serveDNS(t, "service.example", netip.MustParseAddr("192.0.2.7"))
		l := newLab(t, kind, "--dns", local(resolver),
			"--allow-host", fmt.Sprintf("udp:%d", runs4), "--allow-host", fmt.Sprintf("udp:%d", runs6))
		t.Run("datagrams of all sizes", func(*testing.T) { l.requireAllSizes() })
		t.Run("runs of datagrams", func(*testing.T) {
			require.Equal(t, kind.uml && kind.userland == userland.Forky, l.hasUSO(), "of these, only User-mode Linux 7 can use USO")
			l.requireRunsOut(viaGateway(runs4))
			l.requireRunsIn()
			l.do(nil, "slaac", card)
			l.requireRunsOut(at6(gateway6, runs6))
		})
		t.Run("pings", func(*testing.T) {
			for _, size := range []int{0, 56, largestDatagram} {
				var echoes proto.Echoes
				l.do(&echoes, "ping", "10.0.2.2", 3, size)
				require.Equal(t, proto.Echoes{Sent: 3, Answered: 3}, echoes, "%d bytes", size)
			}
		})
		t.Run("names", func(*testing.T) {
			var names proto.Names
			l.do(&names, "resolve", "service.example.")
			require.Equal(t, []string{"192.0.2.7"}, names.Addresses)
			require.ErrorContains(t, l.guest.Do(l.ctx, nil, "resolve", "nothing.example."), "no such host")
		})
	})
}

// requireAllSizes sends a datagram of each size that a frame carries, both ways.
func (l *lab) requireAllSizes() {
	l.t.Helper()
	var echoes proto.Echoes
	l.do(&echoes, "udp-dial", viaGateway(l.udpEcho), 1, largestDatagram)
	require.Equal(l.t, proto.Echoes{Sent: largestDatagram, Answered: largestDatagram}, echoes, "out of the guest")

	for size := 1; size <= largestDatagram; size++ {
		require.True(l.t, echoed(l.udpIn, bytes.Repeat([]byte{byte(size)}, size)), "%d bytes into the guest", size)
	}
}
