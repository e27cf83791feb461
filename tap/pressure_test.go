package tap_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/tap"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// slowUplink gives the bridge br0 another port, which passes 1 Mbit/s, and returns the name of the far end.
func slowUplink(t *testing.T) string {
	t.Helper()
	require.NoError(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "near"}, PeerName: "far"}))
	near := link(t, "near")
	require.NoError(t, netlink.LinkSetMaster(near, link(t, "br0")))
	require.NoError(t, netlink.QdiscReplace(&netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: near.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       1_000_000 / 8, Limit: 1 << 20,
		Buffer: 400_000, // of the kernel's ticks of 64 ns: what 3200 bytes take
	}))
	require.NoError(t, netlink.LinkSetUp(near))
	require.NoError(t, netlink.LinkSetUp(link(t, "far")))
	return "far"
}

// forwarding waits until frames of the guest reach the far end: a bridge needs a moment after its port has a carrier. It
// returns the frame that it sends for that.
func forwarding(g *porttest.Guest, far *host) (probe []byte) {
	probe = frame(60)
	for b := make([]byte, 1<<16); ; {
		g.SendFrame(probe)
		g.Settle()
		if _, err := unix.Read(far.fd, b); err == nil {
			return probe
		}
	}
}

// The kernel takes no more while too many of the guest's frames are under way. They stay in the ring, in order, and go
// on when there is room.
func TestFramesThatTheKernelCannotTakeWaitInTheRing(t *testing.T) {
	const frames = 60
	inNamespace(t)
	d := open(t, tap.Config{Bridge: "br0"})
	far := listenOn(t, slowUplink(t))
	g := guestOn(t, d, porttest.Options{Features: modern})
	probes := forwarding(g, far)
	before := d.Ports()[0].Counters().Sent
	require.NoError(t, unix.IoctlSetPointerInt(d.Ports()[0].FD(), unix.TUNSETSNDBUF, 16<<10))
	for i := range frames {
		f := frame(1000)
		f[20] = byte(i)
		g.SendFrame(f)
	}
	g.Until("all are sent", func() bool { return d.Ports()[0].Counters().Sent == before+frames })
	require.NotZero(t, d.Ports()[0].Counters().Full)
	for i := range frames {
		got := probes
		for len(got) == len(probes) { // some may be under way still
			_, got = far.receive()
		}
		require.EqualValues(t, i, got[20])
	}
}

// meter counts the allocations that happen while the Port has its turn.
type meter struct {
	*tap.Port
	allocs        uint64
	before, after runtime.MemStats
}

func (m *meter) Turn(now int64, tx []virtqueue.Chain, events []netbackend.Event, rx *netbackend.RXWriter) (int, int64) {
	runtime.ReadMemStats(&m.before)
	done, next := m.Port.Turn(now, tx, events, rx)
	runtime.ReadMemStats(&m.after)
	m.allocs += m.after.Mallocs - m.before.Mallocs
	return done, next
}

// Other goroutines may allocate, so one of several rounds without an allocation is the proof; an allocation per frame
// would show in all.
func TestTurnsAllocateNothing(t *testing.T) {
	inNamespace(t)
	d := open(t, tap.Config{})
	m := &meter{Port: d.Ports()[0]}
	g := porttest.New(t, m, porttest.Options{Features: modern | allOffloads})
	g.MayBreakRules = true
	h := listen(t)
	header, b := large(60_000)
	round := func() (allocs uint64) {
		m.allocs = 0
		for range 10 {
			g.SendRaw(header, b)
			g.SendFrame(frame(60))
			g.SendRaw(vnet.Header{GSOType: 99}, frame(60))
			h.send(header, b)
			h.send(vnet.Header{}, frame(60))
			g.Settle()
		}
		return m.allocs
	}
	round() // grows what grows once
	least := round()
	for i := 0; i < 5 && least > 0; i++ {
		least = min(least, round())
	}
	require.Zero(t, least)
	require.Greater(t, m.Counters().Received, uint64(20))
}
