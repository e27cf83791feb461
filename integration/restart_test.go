package integration

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/userland"
	"github.com/vringnet/vring/internal/control/api"
)

// holdings are what vring must give back when front ends and guests have gone. Goroutines stand for threads: the Go
// runtime starts a thread when all others happen to be in system calls and keeps it, however many that are on a busy
// machine. A thread of vring's own belongs to a goroutine for as long as it lives.
type holdings struct {
	FDs, SharedMappings int
	Goroutines          uint64
}

// goroutineSlack is by how many goroutines there may be more: some begin when something is done for the first time. One for each restart would
// be more.
const goroutineSlack = 2

// holdings counts what vring holds now.
func (d *daemon) holdings() holdings {
	d.t.Helper()
	seen := d.footprint()
	var status api.Status
	require.NoError(d.t, json.Unmarshal([]byte(d.ctl("status", "-o", "json")), &status))
	require.Positive(d.t, status.Process.Goroutines)
	return holdings{FDs: seen.FDs, SharedMappings: seen.SharedMappings, Goroutines: status.Process.Goroutines}
}

// requireNoLeak waits until vring holds no more than before. Ended connections are let go within a moment.
func (d *daemon) requireNoLeak(before holdings) {
	d.t.Helper()
	now := before
	fits := func() bool {
		now = d.holdings()
		return now.FDs <= before.FDs && now.SharedMappings <= before.SharedMappings && now.Goroutines <= before.Goroutines+goroutineSlack
	}
	if !assertEventually(fits) {
		require.Fail(d.t, "vring holds more than before", "before %+v, now %+v", before, now)
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
func (l *lab) settled() holdings {
	l.t.Helper()
	l.requireNetwork()
	last := l.vring.holdings()
	quiet := func() bool {
		time.Sleep(time.Second)
		now := l.vring.holdings()
		same := now == last
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
func (l *lab) requireWhole(before holdings) {
	l.t.Helper()
	l.requireNetwork()
	l.requireAllDescriptors()
	l.requireNetwork()
	l.vring.requireNoLeak(before)
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
		l.vring.requireNoLeak(before)
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
		l.vring.requireNoLeak(before)
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
