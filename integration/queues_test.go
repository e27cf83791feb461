package integration

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/testpmd"
	"github.com/vringnet/vring/integration/lab/userland"
)

// Streams go on, whole and in order, while the guest's scheduler moves them between two queue pairs and while the number
// of pairs that the guest uses changes.
func TestTwoQueuePairsOfANAT(t *testing.T) {
	t.Parallel()
	onAll(t, testTwoQueuePairs, onQEMUWithTwo(userland.Bookworm), onQEMUWithTwo(userland.Forky))
}

func testTwoQueuePairs(t *testing.T, kind kind) {
	const streams, size = 4, 16 << 20
	server, gate := serveTCP(t, size), freePort(t)
	peers := [2]*mirror{newMirror(t), newMirror(t)}
	more, args := serveBehindTheCard(t, 2)
	l := newLab(t, kind, append(args, "--queues", "2", "--allow-host", fmt.Sprintf("tcp:%d", server.Port),
		"-p", fmt.Sprintf("gate:%d:%d", gate, guestTCPPort), "--udp-endpoint-independent",
		"--allow-host", fmt.Sprintf("udp:%d", peers[0].port), "--allow-host", fmt.Sprintf("udp:%d", peers[1].port))...)
	l.requireNetwork()
	require.Eventually(t, func() bool { return isRefused(gate) }, soon, 5*time.Millisecond, "the guest's port was open, and is not now")
	var calls [streams]*guest.Call
	for i := range calls {
		calls[i] = l.guest.Start("tcp-dial", viaGateway(server.Port), size, guestSeed)
	}
	for _, channels := range []int{1, 2, 1, 2} {
		l.do(nil, "run", "ethtool", "-L", card, "combined", channels)
		l.transferIn()
		require.Equal(t, l.seenBy(peers[0]), l.seenBy(peers[1]), "a port of the guest is one port of the host")
	}
	for _, call := range calls {
		var got proto.Transfer
		require.NoError(t, call.Wait(l.ctx, &got))
		requirePattern(t, hostSeed, size, got)
		requirePattern(t, guestSeed, size, server.next(l.ctx, t))
	}
	listen := l.guest.Start("tcp-listen", guestTCPPort, labBytes, guestSeed)
	require.NoError(t, listen.Event(l.ctx, nil))
	require.NoError(t, exchange(dialWhenOpen(t, gate), labBytes).err, "the gate opens with the guest's port")
	require.NoError(t, listen.Event(l.ctx, nil))
	require.NoError(t, listen.Wait(l.ctx, nil))
	require.Eventually(t, func() bool { return isRefused(gate) }, soon, 5*time.Millisecond)
	if kind.userland == userland.Bookworm { // which takes half the time of the other
		more.join(l)
		for _, receive := range []bool{false, true} {
			more.talk(receive, func() {
				l.do(nil, "run", "ethtool", "-L", card, "combined", 1)
				l.do(nil, "run", "ethtool", "-L", card, "combined", 2)
			})
		}
	}
	moved := uint64(0)
	for pair, counted := range l.vring.countersOf(2) {
		require.NotZero(t, counted.of(t, "frames_in"), "queue pair %d", pair)
		moved += counted.of(t, "flows_moved")
	}
	require.NotZero(t, moved, "flows change their queue pair")
	l.requireNetwork()
}

// mirror sends datagrams back, and tells who they came from.
type mirror struct {
	port int
	from chan net.Addr
}

func newMirror(t *testing.T) *mirror {
	m := &mirror{from: make(chan net.Addr, 1)}
	m.port = echoDatagrams(t, "127.0.0.1", func(peer net.Addr) { m.from <- peer })
	return m
}

// seenBy returns by which port of the host a datagram of the guest's comes to a mirror.
func (l *lab) seenBy(m *mirror) string {
	l.t.Helper()
	var echoes proto.Echoes
	l.do(&echoes, "udp-dial", viaGateway(m.port), 1, 1, guestFromPort)
	require.Equal(l.t, proto.Echoes{Sent: 1, Answered: 1}, echoes)
	return (<-m.from).String()
}

// Many flows of testpmd come by both of its queue pairs. None of them leads anywhere.
func TestTestpmdOnANATWithTwoQueuePairs(t *testing.T) {
	onEachDPDK(t, testTestpmdOnANAT)
}

func testTestpmdOnANAT(t *testing.T, u userland.Userland) {
	vring := startVring(t, "nat", "--queues", "2", "--restrict")
	pmd, err := testpmd.Start(limited(t), testpmd.Options{
		Userland: u,
		Socket:   vring.Socket, Queues: 2, Dir: shortDir(t), Mode: testpmd.Flows,
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pmd.Kill()) })
	require.NoError(t, pmd.Forward())
	vring.waitCounterOfEach(2, "frames_in", manyFrames/10)
	require.NoError(t, pmd.Stop())
	for pair, counted := range vring.countersOf(2) {
		require.Equal(t, counted.of(t, "frames_in"), counted.of(t, "denied"), "queue pair %d", pair)
	}
}
