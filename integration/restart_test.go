package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/userland"
)

// threadSlack is by how much the number of threads may rise. The Go runtime starts one when all others happen to be in
// system calls and keeps it for the next time, so a few more are no leak; one for each restart would be.
const threadSlack = 3

// requireNoLeak waits until vring holds no more than before. Ended connections are let go within a moment.
func (l *lab) requireNoLeak(before process.Footprint) {
	l.t.Helper()
	fits := func() bool {
		now := l.vring.footprint()
		return now.FDs <= before.FDs && now.SharedMappings <= before.SharedMappings && now.Threads <= before.Threads+threadSlack
	}
	if !assertEventually(fits) {
		require.Fail(l.t, "vring holds more than before", "before %+v, now %+v", before, l.vring.footprint())
	}
}

// assertEventually waits for a condition.
func assertEventually(condition func() bool) bool {
	for deadline := time.Now().Add(soon); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if condition() {
			return true
		}
	}
	return false
}

// settled uses the network, so that all that vring allots once is there, waits until the connections are gone, and
// returns what vring holds then.
func (l *lab) settled() process.Footprint {
	l.t.Helper()
	l.requireNetwork()
	last := l.vring.footprint()
	quiet := func() bool {
		time.Sleep(time.Second)
		now := l.vring.footprint()
		same := now.FDs == last.FDs
		last = now
		return same
	}
	require.True(l.t, assertEventually(quiet), "vring does not settle")
	return last
}

// happenings are what a guest on QEMU may go through. Its reset is a test of its own, which looks at connections, too.
func happenings() map[string]func(l *lab) {
	return map[string]func(l *lab){
		"an unplugged cable": func(l *lab) {
			require.NoError(l.t, l.guest.qemu.QMP.SetLink(false))
			l.waitCarrier(false)
			require.NoError(l.t, l.guest.qemu.QMP.SetLink(true))
			l.waitCarrier(true)
		},
		"a pause of the guest": func(l *lab) {
			require.NoError(l.t, l.guest.qemu.QMP.Stop())
			require.NoError(l.t, l.guest.qemu.QMP.Continue())
		},
		"a killed front end": func(l *lab) {
			require.NoError(l.t, l.guest.Kill())
			l.startGuest()
		},
	}
}

// The network survives whatever happens to the guest, one thing after the other: it is back at once, both rings have all of
// their descriptors, and vring holds no more than before.
func TestTheNetworkSurvives(t *testing.T) {
	atOnceOnEachQEMU(t, func(t *testing.T, kind kind) {
		l := newLab(t, kind)
		before := l.settled()
		for name, happen := range happenings() {
			t.Log(name)
			happen(l)
			l.requireWhole(before)
		}
	})
}

// requireWhole proves that the network works, that both rings have all of their descriptors, and that vring holds no more
// than before.
func (l *lab) requireWhole(before process.Footprint) {
	l.t.Helper()
	l.requireNetwork()
	l.requireAllDescriptors()
	l.requireNetwork()
	l.requireNoLeak(before)
}

// waitCarrier waits until the guest sees its cable plugged or unplugged.
func (l *lab) waitCarrier(want bool) {
	l.t.Helper()
	require.Eventually(l.t, func() bool {
		var link proto.Link
		l.do(&link, "link", card)
		return link.Carrier == want
	}, soon, 10*time.Millisecond)
}

// Each time, the driver takes its buffers back while frames go in and out, and frees them.
func TestTheDriverIsUnloadedAndLoadedAgainUnderLoad(t *testing.T) {
	atOnceOnEach(t, func(t *testing.T, kind kind) {
		l := newLab(t, kind)
		before := l.settled()
		for range 3 {
			var load proto.Spawned
			flood := l.guest.Start("spawn", "udp-flood", viaGateway(l.udpEcho), 1000, guestFromPort) // each datagram comes back
			require.NoError(t, flood.Event(l.ctx, &load))
			l.waitTraffic()
			l.do(nil, "rmmod", "virtio_net")
			l.do(nil, "kill", load.Process)
			require.NoError(t, flood.Wait(l.ctx, nil))
			l.do(nil, "insmod", "virtio_net")
			l.lease()
			l.transferOut()
		}
		l.requireNetwork()
		if !kind.uml {
			l.requireAllDescriptors()
			l.requireNetwork()
		}
		require.NotContains(t, l.vring.Output(), "a ring of the guest is broken")
		l.requireNoLeak(before)
	})
}

// waitTraffic waits until many datagrams have passed in each direction.
func (l *lab) waitTraffic() {
	l.t.Helper()
	const many = 50
	start := l.vring.counters()
	require.Eventually(l.t, func() bool {
		now := l.vring.counters()
		return now.of(l.t, "udp_sends") > start.of(l.t, "udp_sends")+many && now.of(l.t, "udp_receives") > start.of(l.t, "udp_receives")+many
	}, soon, 10*time.Millisecond, "no traffic")
}

func TestAKilledUMLGuestIsFollowedByAnother(t *testing.T) {
	atOnceOnAll(t, func(t *testing.T, kind kind) {
		l := newLab(t, kind)
		before := l.settled()
		for range 2 {
			require.NoError(t, l.guest.Kill())
			l.startGuest()
			l.requireNetwork()
		}
		l.requireNoLeak(before)
	}, onUML(userland.Bookworm), onUML(userland.Forky))
}

// QEMU connects again by itself, and the driver in the guest notices no more than an unplugged cable.
func TestVringIsKilledUnderLoadAndStartedAgain(t *testing.T) {
	atOnceOnEachQEMU(t, testKilledUnderLoad)
}

func testKilledUnderLoad(t *testing.T, kind kind) {
	const endless = 1 << 40 // more than the test could send
	server := serveTCP(t, endless)
	l := newLab(t, kind, "--allow-host", fmt.Sprintf("tcp:%d", server.Port))
	load := []*guest.Call{
		l.guest.Start("tcp-dial", viaGateway(server.Port), endless, guestSeed),
		l.guest.Start("tcp-dial", viaGateway(server.Port), endless, guestSeed),
	}
	l.waitReceived(16 << 20)
	require.NoError(t, l.vring.Kill())
	l.waitCarrier(false) // a busy guest may need longer to look than vring needs to be back
	l.vring.start()
	l.waitCarrier(true)
	for _, call := range load {
		require.Error(t, call.Wait(l.ctx, nil), "the new vring does not know the connections of the old one")
		require.NoError(t, l.ctx.Err())
	}
	l.requireNetwork()
	l.requireAllDescriptors()
	l.requireNetwork()
}

// waitReceived waits until the guest has received n more bytes.
func (l *lab) waitReceived(n uint64) {
	l.t.Helper()
	var before proto.Link
	l.do(&before, "link", card)
	require.Eventually(l.t, func() bool {
		var now proto.Link
		l.do(&now, "link", card)
		return now.ReceivedBytes-before.ReceivedBytes > n
	}, soon, 10*time.Millisecond)
}
