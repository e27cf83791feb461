package integration

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/guest"
	"github.com/vringnet/vring/integration/guest/proto"
	"github.com/vringnet/vring/integration/userland"
)

// So many transfers run at once, and each side sends so much in each of them.
const (
	connections   = 8
	transferBytes = 16 << 20
)

func TestEightTransfersOutOfTheGuest(t *testing.T) {
	onEach(t, func(t *testing.T, kind kind) {
		server := serveTCP(t, transferBytes)
		l := newLab(t, kind, "--allow-host", fmt.Sprintf("tcp:%d", server.Port))
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
	})
}

func TestEightTransfersThroughAForward(t *testing.T) {
	onEach(t, func(t *testing.T, kind kind) {
		l := newLab(t, kind)
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
	})
}

// largestDatagram is the payload that fits one frame at MTU 1500.
const largestDatagram = 1472

func TestDatagramsOfAllSizes(t *testing.T) {
	onOneOfEach(t, userland.Forky, func(t *testing.T, kind kind) {
		l := newLab(t, kind)
		var echoes proto.Echoes
		l.do(&echoes, "udp-dial", viaGateway(l.udpEcho), 1, largestDatagram)
		require.Equal(t, proto.Echoes{Sent: largestDatagram, Answered: largestDatagram}, echoes, "out of the guest")

		for size := 1; size <= largestDatagram; size++ {
			require.True(t, echoed(l.udpIn, bytes.Repeat([]byte{byte(size)}, size)), "%d bytes into the guest", size)
		}
	})
}

func TestTheGatewayAnswersPing(t *testing.T) {
	onOneOfEach(t, userland.Bookworm, func(t *testing.T, kind kind) {
		l := newLab(t, kind)
		for _, size := range []int{0, 56, largestDatagram} {
			var echoes proto.Echoes
			l.do(&echoes, "ping", "10.0.2.2", 3, size)
			require.Equal(t, proto.Echoes{Sent: 3, Answered: 3}, echoes, "%d bytes", size)
		}
	})
}

func TestANameIsResolvedThroughTheRelay(t *testing.T) {
	onOneOfEach(t, userland.Forky, func(t *testing.T, kind kind) {
		port := serveDNS(t, "service.example", netip.MustParseAddr("192.0.2.7"))
		l := newLab(t, kind, "--dns", local(port))
		var names proto.Names
		l.do(&names, "resolve", "service.example.")
		require.Equal(t, []string{"192.0.2.7"}, names.Addresses)
		require.ErrorContains(t, l.guest.Do(l.ctx, nil, "resolve", "nothing.example."), "no such host")
	})
}
