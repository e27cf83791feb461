package vhostuser

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/socketfile"
	"github.com/vringnet/vring/vhostuser/frontend"
	"github.com/vringnet/vring/vhostuser/wire"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

func orders() []frontend.Order {
	return []frontend.Order{frontend.QEMU, frontend.CloudHypervisor, frontend.DPDK, frontend.UserModeLinux, frontend.QEMU11}
}

func TestRingsStartInTheOrderOfEveryFrontEnd(t *testing.T) {
	for _, order := range orders() {
		for pairs := 1; pairs <= 2; pairs++ {
			t.Run(fmt.Sprintf("%v/%d", order, pairs), func(t *testing.T) {
				h := newHarness(t, pairs)
				h.setup.Order = order
				for i := range h.setup.Rings {
					h.setup.Rings[i].Base = uint16(100 + i)
				}
				h.start()
				h.requireConfigs()
			})
		}
	}
}

// requireConfigs checks that the device has the rings as the front end described them.
func (h *harness) requireConfigs() {
	h.t.Helper()
	for i, want := range h.setup.Rings {
		got := h.dev.ring(i)
		dir := virtqueue.Direction(virtqueue.ToGuest)
		if i%2 == 1 {
			dir = virtqueue.FromGuest
		}
		require.Equal(h.t, virtqueue.Config{
			Size: uint16(want.Num), Desc: want.Desc, Avail: want.Avail, Used: want.Used, Dir: dir,
			State: virtqueue.SplitState(want.Base), StateIsExact: got.cfg.StateIsExact,
			Indirect: true, EventIdx: true,
		}, got.cfg)
		require.NotEqual(h.t, noFD, got.fds.Kick)
		require.NotEqual(h.t, noFD, got.fds.Call)
		require.NotEqual(h.t, noFD, got.fds.Err)
	}
}

func TestRingsStartInAnyOrderOfMessages(t *testing.T) {
	for seed := range uint64(100) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			h := newHarness(t, 2)
			h.setup.Order = orders()[seed%5]
			require.NoError(t, h.fe.Negotiate(fakeFeatures, wire.ProtocolReplyAck|wire.ProtocolConfigureMemSlots))
			steps := h.setup.Steps(h.fe.Features())
			rand.New(rand.NewPCG(seed, 0)).Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
			for _, s := range steps {
				require.NoError(t, h.fe.Do(s))
			}
			h.sync()
			h.dev.requireRings(true, true)
			h.requireConfigs()
		})
	}
}

func TestDisconnectAtEveryMessageBoundaryLeavesNothing(t *testing.T) {
	for _, order := range orders() {
		n := 0
		for left := 1; left > 0; n++ { // the leak check is the test
			t.Run(fmt.Sprintf("%v/%d", order, n), func(t *testing.T) {
				h := newHarness(t, 1)
				h.setup.Order = order
				require.NoError(t, h.fe.Negotiate(fakeFeatures, wire.ProtocolReplyAck|wire.ProtocolConfigureMemSlots))
				steps := h.setup.Steps(h.fe.Features())
				for _, s := range steps[:n] {
					require.NoError(t, h.fe.Do(s))
				}
				left = len(steps) - n
				h.fe.Close()
				h.requireEnd(nil)
				h.dev.requireRings(false, false)
			})
		}
	}
}

func TestOffer(t *testing.T) {
	const always = wire.ProtocolLogSHMFD | wire.ProtocolRARP | wire.ProtocolReplyAck | wire.ProtocolNetMTU | wire.ProtocolBackendReq |
		wire.ProtocolResetDevice | wire.ProtocolConfigureMemSlots | wire.ProtocolGPAAddresses
	for pairs, want := range map[int]uint64{
		1: always,
		2: always | wire.ProtocolMQ,
	} {
		h := newHarness(t, pairs)
		f, err := h.fe.GetFeatures()
		require.NoError(t, err)
		require.Equal(t, fakeFeatures|wire.FeatureProtocolFeatures|vnet.FeatureLogAll, f)
		p, err := h.fe.GetProtocolFeatures()
		require.NoError(t, err)
		require.Equal(t, want, p)
		n, err := h.fe.GetQueueNum()
		require.NoError(t, err)
		require.Equal(t, uint64(pairs), n, "QEMU compares it with its number of queue pairs")
	}
}

// See protocolFeatures for who needs the channel, and whom it harms.
func TestTheBackEndChannelIsOfferedOnlyOnASocketThatIsListenedOn(t *testing.T) {
	offer := func(s *served, fe *frontend.Conn) uint64 {
		p, err := fe.GetProtocolFeatures()
		require.NoError(t, err)
		require.NoError(t, fe.Close())
		return p & wire.ProtocolBackendReq
	}
	dial := func(path string) *frontend.Conn {
		fe, err := frontend.Dial(path)
		require.NoError(t, err)
		return fe
	}
	t.Run("listens", func(t *testing.T) {
		s := serve(t, Config{})
		require.NotZero(t, offer(s, dial(s.path)))
	})
	t.Run("connects", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "fe.sock")
		s := serve(t, Config{SocketPath: path, Client: true})
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		require.NoError(t, err)
		defer l.Close()
		require.Zero(t, offer(s, acceptFrontEnd(t, l)))
	})
	t.Run("inherited connection", func(t *testing.T) {
		ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		require.NoError(t, err)
		s := serve(t, Config{FD: ends[1]})
		fe, err := frontend.NewConn(ends[0])
		require.NoError(t, err)
		require.Zero(t, offer(s, fe))
	})
	t.Run("inherited listener", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "vu.sock")
		fd, err := socketfile.Listen(path, socketfile.OwnerOnly(), 8)
		require.NoError(t, err)
		require.Zero(t, offer(serve(t, Config{FD: fd}), dial(path)))
	})
}

func TestARingIsStartedWithoutBuildingAQueueToCheckIt(t *testing.T) {
	h := newHarness(t, 1)
	h.start()
	const cycles = 50
	before := allocated()
	for range cycles {
		_, err := h.fe.GetVringBase(0)
		require.NoError(t, err)
		require.NoError(t, h.fe.SetVringKick(0, h.setup.Rings[0].KickFD))
		h.sync()
	}
	h.dev.requireRings(true, true)
	const most = 16 << 10 // bytes for a whole cycle, the front end's part included; a queue alone has 80 KiB
	require.Less(t, (allocated()-before)/cycles, uint64(most))
}

// allocated is how many bytes were allocated ever.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

func TestNothingStartsBeforeTheFeaturesAreKnown(t *testing.T) {
	h := newHarness(t, 1)
	require.NoError(t, h.fe.Negotiate(fakeFeatures, 0))
	for _, s := range h.setup.Steps(h.fe.Features()) {
		if s.Message.Request != wire.SetFeatures {
			require.NoError(t, h.fe.Do(s))
		}
	}
	h.sync()
	h.dev.requireRings(false, true)
	require.NoError(t, h.fe.SetFeatures(h.fe.Features()))
	h.sync()
	h.dev.requireRings(true, true)
}

func TestStopAnswersBaseAndKeepsEverythingButTheDescriptors(t *testing.T) {
	h := newHarness(t, 1)
	h.start()
	h.dev.takeCalls()
	h.dev.answerBase(0, 0xfffe)
	before := openFDs(t)

	base, err := h.fe.GetVringBase(0)
	require.NoError(t, err)
	require.Equal(t, uint16(0xfffe), base)
	require.Equal(t, before-2, openFDs(t), "kick and call are closed")
	again, err := h.fe.GetVringBase(0)
	require.NoError(t, err)
	require.Equal(t, base, again, "a ring that is stopped stays where it is")
	require.NoError(t, h.fe.SetVringCall(0, h.setup.Rings[0].CallFD))
	h.sync()
	require.Equal(t, []string{"StopRing 0"}, h.dev.takeCalls())
	require.True(t, h.dev.ring(0).enabled)
	require.True(t, h.dev.ring(1).running, "the other ring does not care")

	require.NoError(t, h.fe.SetVringKick(0, h.setup.Rings[0].KickFD))
	h.sync()
	require.Equal(t, []string{"StartRing 0 size 64 base 65534"}, h.dev.takeCalls())
}

func TestGuestResetSendsEverythingAgain(t *testing.T) {
	h := newHarness(t, 1)
	h.start()
	for range 3 {
		_, err := h.fe.Stop(h.setup)
		require.NoError(t, err)
		h.dev.takeCalls()
		for _, s := range h.setup.Steps(h.fe.Features()) {
			require.NoError(t, h.fe.Do(s))
		}
		h.sync()
		require.Equal(t, []string{"DriverGone", "SetFeatures 0x130008000", "SetMemory", "StartRing 0 size 64 base 0", "SetCall 0",
			"StartRing 1 size 64 base 0", "SetCall 1"}, h.dev.takeCalls())
	}
}

func TestNumOrBaseOnARunningRingStopsItFirst(t *testing.T) {
	tests := []struct {
		name string
		send func(fe *frontend.Conn) error
	}{
		{"NUM", func(fe *frontend.Conn) error { return fe.SetVringNum(0, ringSize) }},
		{"BASE", func(fe *frontend.Conn) error { return fe.SetVringBase(0, 7) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t, 1)
			h.start()
			h.dev.takeCalls()
			require.NoError(t, tt.send(h.fe))
			h.sync()
			require.Equal(t, []string{"StopRing 0"}, h.dev.takeCalls(), "and waits for its addresses")
			r := h.setup.Rings[0]
			require.NoError(t, h.fe.SetVringAddr(0, ringAddr(r)))
			h.sync()
			require.True(t, h.dev.ring(0).running, "with the kick that it has")
		})
	}
}

func ringAddr(r frontend.Ring) wire.RingAddr {
	return wire.RingAddr{Desc: uint64(r.Desc), Used: uint64(r.Used), Avail: uint64(r.Avail)}
}

func TestBaseThatComesLastRestartsTheRing(t *testing.T) {
	h := newHarness(t, 1)
	require.NoError(t, h.fe.Negotiate(fakeFeatures, 0))
	for _, s := range h.setup.Steps(h.fe.Features()) {
		if s.Message.Request != wire.SetVringBase {
			require.NoError(t, h.fe.Do(s))
		}
	}
	h.sync()
	h.dev.takeCalls()
	require.NoError(t, h.fe.SetVringBase(1, 40))
	h.sync()
	require.Equal(t, []string{"StopRing 1", "StartRing 1 size 64 base 40"}, h.dev.takeCalls())
}

// User-mode Linux does not stop rings. Until the addresses come, they may be the memory of something else.
func TestDriverReloadWithoutStoppingRings(t *testing.T) {
	h := newHarness(t, 1)
	h.setup.Order = frontend.UserModeLinux
	h.start()
	h.dev.takeCalls()
	require.NoError(t, h.fe.SetVringEnable(0, false))
	require.NoError(t, h.fe.SetVringEnable(1, false))
	h.sync() // its barrier too
	require.Equal(t, []string{"EnableRing 0 false", "EnableRing 1 false"}, h.dev.takeCalls())

	require.NoError(t, h.fe.SetFeatures(wire.FeatureProtocolFeatures|vnet.FeatureVersion1))
	h.sync()
	require.Equal(t, []string{"StopRing 0", "StopRing 1", "SetFeatures 0x100000000"}, h.dev.takeCalls())
	for _, s := range h.setup.Steps(wire.FeatureProtocolFeatures | vnet.FeatureVersion1) {
		require.NoError(t, h.fe.Do(s))
	}
	h.sync()
	h.dev.requireRings(true, true)
}

func TestAddressesOnARunningRing(t *testing.T) {
	h := newHarness(t, 1)
	h.start()
	h.dev.takeCalls()
	require.NoError(t, h.fe.SetVringAddr(0, ringAddr(h.setup.Rings[0])))
	h.sync()
	require.Empty(t, h.dev.takeCalls(), "the same addresses change nothing")

	h.dev.answerBase(0, 12)
	cfg := vqtest.NewDriver(h.mem, vqtest.Options{Size: ringSize, EventIdx: true}).Layout()
	require.NoError(t, h.fe.SetVringAddr(0, wire.RingAddr{Desc: uint64(cfg.Desc), Used: uint64(cfg.Used), Avail: uint64(cfg.Avail)}))
	h.sync()
	require.Equal(t, []string{"StopRing 0", "StartRing 0 size 64 base 12"}, h.dev.takeCalls())
}

func TestFeaturesWhileRingsRun(t *testing.T) {
	h := newHarness(t, 1)
	h.start()
	h.dev.takeCalls()
	require.NoError(t, h.fe.SetFeatures(h.fe.Features()))
	h.sync()
	require.Empty(t, h.dev.takeCalls(), "repeated, they change nothing")

	require.NoError(t, h.fe.SetFeatures(h.fe.Features()&^vnet.FeatureEventIdx))
	h.sync()
	require.Equal(t, []string{"StopRing 0", "StopRing 1", "SetFeatures 0x110008000",
		"StartRing 0 size 64 base 0", "StartRing 1 size 64 base 0"}, h.dev.takeCalls())
	require.False(t, h.dev.ring(0).cfg.EventIdx)
	h.dev.requireRings(true, true)
}

func TestWithoutProtocolFeaturesAllRingsAreEnabledAtOnce(t *testing.T) {
	h := newHarness(t, 2)
	require.NoError(t, h.fe.SetOwner())
	for _, s := range h.setup.Steps(fakeFeatures) {
		if s.Message.Request != wire.SetVringEnable {
			require.NoError(t, h.fe.Do(s))
		}
	}
	h.sync()
	h.dev.requireRings(true, true)
}

func TestEnableIsSeparateFromRunning(t *testing.T) {
	h := newHarness(t, 1)
	require.NoError(t, h.fe.SetVringEnable(0, true))
	require.NoError(t, h.fe.SetVringEnable(0, true))
	require.NoError(t, h.fe.SetVringEnable(1, false))
	h.sync()
	require.Equal(t, []string{"EnableRing 0 true"}, h.dev.takeCalls(), "before there are rings, and once")
	h.start()
	require.NoError(t, h.fe.SetVringEnable(0, false))
	h.sync()
	require.Equal(t, fakeRing{running: true, cfg: h.dev.ring(0).cfg, fds: h.dev.ring(0).fds}, h.dev.ring(0))
}

func TestResetOwnerDisablesRings(t *testing.T) {
	h := newHarness(t, 1)
	h.start()
	require.NoError(t, h.fe.ResetOwner())
	h.sync()
	h.dev.requireRings(true, false)
}

func TestDescriptorsAreReplacedUnderARunningRing(t *testing.T) {
	h := newHarness(t, 1)
	h.start()
	h.dev.takeCalls()
	before := openFDs(t)
	fd := h.setup.Rings[1].KickFD
	for range 20 { // the leak check of the harness counts, too
		require.NoError(t, h.fe.SetVringKick(1, fd))
		require.NoError(t, h.fe.SetVringCall(1, fd))
		require.NoError(t, h.fe.SetVringErr(1, fd))
		h.sync()
		require.Equal(t, []string{"SetKick 1", "SetCall 1", "SetErr 1"}, h.dev.takeCalls())
	}
	require.Equal(t, before, openFDs(t))
	require.NoError(t, h.fe.SetVringKick(1, noFD))
	require.NoError(t, h.fe.SetVringCall(1, noFD))
	require.NoError(t, h.fe.SetVringErr(1, noFD))
	h.sync()
	require.Equal(t, virtqueue.RingFDs{Kick: noFD, Call: noFD, Err: noFD}, h.dev.ring(1).fds)
	require.Equal(t, before-3, openFDs(t))
}

func TestRingWithoutDescriptorsRuns(t *testing.T) {
	h := newHarness(t, 1)
	for i := range h.setup.Rings {
		h.setup.Rings[i].KickFD, h.setup.Rings[i].CallFD, h.setup.Rings[i].ErrFD = noFD, noFD, noFD
	}
	h.start()
	require.Equal(t, virtqueue.RingFDs{Kick: noFD, Call: noFD, Err: noFD}, h.dev.ring(0).fds)
}

func TestBlockingSocketsOfUserModeLinuxAreMadeNonBlocking(t *testing.T) {
	h := newHarness(t, 1)
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(ends[0])
	defer unix.Close(ends[1])
	h.setup.Rings[0].CallFD = ends[0]
	h.start() // the fake device checks it
}

func TestMemoryUnderRunningRings(t *testing.T) {
	h := newHarness(t, 1)
	h.start()
	h.dev.takeCalls()
	maps := guestMappings(t)
	for range 20 {
		require.NoError(t, h.fe.SetMemTable(h.setup.Memory))
	}
	require.Len(t, h.dev.takeCalls(), 20)
	require.Equal(t, maps, guestMappings(t), "unchanged memory keeps its mapping")
	h.dev.requireRings(true, true)
}

func TestRingOutsideNewMemoryStopsUntilItIsInMemoryAgain(t *testing.T) {
	h := newHarness(t, 1)
	h.start()
	h.dev.takeCalls()
	h.dev.answerBase(0, 5)
	require.NoError(t, h.fe.SetMemTable(shifted(h.setup.Memory, 1<<30)))
	require.Equal(t, []string{"StopRing 0", "StopRing 1", "SetMemory"}, h.dev.takeCalls())
	require.Equal(t, uint64(1), readEventfd(t, h.setup.Rings[0].ErrFD))
	require.Contains(t, h.log.String(), "a ring cannot be served")

	require.NoError(t, h.fe.SetMemTable(h.setup.Memory))
	require.Equal(t, []string{"SetMemory", "StartRing 0 size 64 base 5", "StartRing 1 size 64 base 0"}, h.dev.takeCalls())
}

func TestBadMemoryIsRefusedAndTheOldStays(t *testing.T) {
	h := newHarness(t, 1)
	h.start()
	h.dev.takeCalls()
	fd := h.mem.FD()
	overlapping := append(shifted(h.setup.Memory, 0), h.setup.Memory...)
	noFile := h.setup.Memory[0]
	noFile.FD = eventfd(t)
	beyond := h.setup.Memory[0]
	beyond.Size += 4096
	odd := h.setup.Memory[0]
	odd.Size, odd.Offset = 4096, 1
	tests := []struct {
		name    string
		regions []guestmem.Region
	}{
		{"no size", []guestmem.Region{{GPA: 1, UVA: 1, FD: fd}}},
		{"wraps in the file", []guestmem.Region{{Size: 8192, Offset: 1<<64 - 4096, FD: fd}}},
		{"wraps in the guest", []guestmem.Region{{GPA: 1<<64 - 4096, Size: 8192, FD: fd}}},
		{"wraps in the front end", []guestmem.Region{{UVA: 1<<64 - 4096, Size: 8192, FD: fd}}},
		{"overlap", overlapping},
		{"an eventfd", []guestmem.Region{noFile}},
		{"beyond the file", []guestmem.Region{beyond}},
		{"odd offset", []guestmem.Region{odd}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var refused *frontend.RefusedError
			require.ErrorAs(t, h.fe.SetMemTable(tt.regions), &refused)
			require.Empty(t, h.dev.takeCalls())
			h.sync()
		})
	}
	h.dev.requireRings(true, true)
}

func TestRingThatCannotBeServed(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(r *frontend.Ring)
	}{
		{"size 3", func(r *frontend.Ring) { r.Num = 3 }},
		{"size above 32768", func(r *frontend.Ring) { r.Num = 1 << 16 }},
		{"size whose low half is good", func(r *frontend.Ring) { r.Num = 1<<16 | ringSize }},
		{"descriptors misaligned", func(r *frontend.Ring) { r.Desc += 8 }},
		{"available ring misaligned", func(r *frontend.Ring) { r.Avail++ }},
		{"used ring misaligned", func(r *frontend.Ring) { r.Used += 2 }},
		{"available ring is the used ring", func(r *frontend.Ring) { r.Avail = r.Used }},
		{"outside memory", func(r *frontend.Ring) { r.Desc += 1 << 40 }},
		{"address wraps", func(r *frontend.Ring) { r.Desc = 1<<64 - 16 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t, 1)
			good := h.setup.Rings[0]
			tt.spoil(&h.setup.Rings[0])
			require.NoError(t, h.fe.Setup(h.setup))
			h.sync()
			require.False(t, h.dev.ring(0).running)
			require.True(t, h.dev.ring(1).running, "the other ring does not care")
			require.NotZero(t, readEventfd(t, good.ErrFD), "the front end is told")

			require.NoError(t, h.fe.SetVringNum(0, good.Num))
			require.NoError(t, h.fe.SetVringAddr(0, ringAddr(good)))
			h.sync()
			require.True(t, h.dev.ring(0).running, "repaired, it runs")
		})
	}
}

func TestSizeZeroIsNoSize(t *testing.T) {
	h := newHarness(t, 1)
	h.setup.Rings[0].Num = 0
	require.NoError(t, h.fe.Setup(h.setup))
	h.sync()
	require.False(t, h.dev.ring(0).running)
}

func TestAcknowledgements(t *testing.T) {
	h := newHarness(t, 1)
	require.NoError(t, h.fe.Negotiate(fakeFeatures, wire.ProtocolReplyAck))
	h.fe.AlwaysAck = true
	require.NoError(t, h.fe.SetOwner())
	require.NoError(t, h.fe.SetMTU(9000))
	require.NoError(t, h.fe.SendRARP([6]byte{2, 0, 0, 0, 0, 1}))
	require.Equal(t, []string{"SetMTU 9000", "SendRARP 020000000001"}, h.dev.takeCalls())

	var refused *frontend.RefusedError
	require.ErrorAs(t, h.fe.SetMTU(67), &refused)
	require.ErrorAs(t, h.fe.SetFeatures(1<<63), &refused)
	require.ErrorAs(t, h.fe.SetProtocolFeatures(1<<9), &refused)
	require.ErrorAs(t, h.fe.Send(wire.Message{Request: 22}), &refused, "IOTLB_MSG")
	require.ErrorAs(t, h.fe.Send(wire.Message{Request: 0}), &refused)
	require.ErrorAs(t, h.fe.Send(wire.Message{Request: 45}), &refused)
	require.ErrorAs(t, h.fe.SetVringNum(2, 256), &refused)

	v, err := h.fe.Call(wire.Message{Request: wire.GetQueueNum, NeedReply: true})
	require.NoError(t, err)
	require.Equal(t, uint64(1), v)
	h.sync() // one reply, not two
}

func TestWhatCanBeDoneWithoutIsIgnored(t *testing.T) {
	h := newHarness(t, 1)
	h.dev.failOn("SetMTU", errors.New("too large"))
	h.dev.failOn("SendRARP", errors.New("nobody listens"))
	require.NoError(t, h.fe.SetMTU(9000))
	require.NoError(t, h.fe.SendRARP([6]byte{}))
	require.NoError(t, h.fe.Send(wire.Message{Request: 35}))
	h.sync()
	require.Contains(t, h.log.String(), "ignored a message of the front end")
}

func TestBackendChannelStaysOpen(t *testing.T) {
	h := newHarness(t, 1)
	var pipe [2]int
	require.NoError(t, unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK))
	defer unix.Close(pipe[0])
	require.NoError(t, h.fe.SetBackendReqFD(pipe[1]))
	require.NoError(t, h.fe.SetBackendReqFD(pipe[1]))
	h.sync()
	require.NoError(t, unix.Close(pipe[1]))
	_, err := unix.Read(pipe[0], make([]byte, 1))
	require.ErrorIs(t, err, unix.EAGAIN, "no end of file as long as the session lasts")
	h.fe.Close()
	h.wait()
	n, err := unix.Read(pipe[0], make([]byte, 1))
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestNegotiationIsLoggedOnceByName(t *testing.T) {
	h := newHarness(t, 1)
	h.start()
	_, err := h.fe.Stop(h.setup)
	require.NoError(t, err)
	require.NoError(t, h.fe.SetVringKick(0, h.setup.Rings[0].KickFD))
	h.sync()
	require.Equal(t, 1, countLines(h.log.String(), `msg="guest driver is up"`), h.log.String())
	require.Contains(t, h.log.String(), `features="[MRG_RXBUF INDIRECT_DESC EVENT_IDX VERSION_1]" `+
		`protocol_features="[RARP REPLY_ACK NET_MTU BACKEND_REQ]" queue_pairs=1 memory_mib=1`)
}
