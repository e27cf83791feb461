package tap_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/tap"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// guests are the kinds of drivers that there are.
func guests() map[string]porttest.Options {
	return map[string]porttest.Options{
		"modern, all offloads":         {Features: modern | allOffloads},
		"modern, no offloads":          {Features: modern},
		"without mergeable buffers":    {Features: vnet.FeatureVersion1},
		"big packets":                  {Features: vnet.FeatureVersion1 | allOffloads},
		"legacy, header of 10 bytes":   {Features: legacy},
		"legacy, big packets":          {Features: legacy | allOffloads},
		"buffers of a page":            {Features: modern | allOffloads, BufSize: 4096},
		"small buffers, memory mapped": {Features: modern | allOffloads, BufSize: 512, Memfd: true},
	}
}

func TestFramesPassBothWays(t *testing.T) {
	for kind, opt := range guests() {
		t.Run(kind, func(t *testing.T) {
			opt.DirtyLog = true
			inNamespace(t)
			d := open(t, tap.Config{})
			g, h := guestOn(t, d, opt), listen(t)
			for _, n := range []int{60, 61, 1000, 1514} {
				g.SendFrame(frame(n), porttest.OneByte(n%20))
				g.Settle()
				header, got := h.receive()
				requireFrame(t, frame(n), got)
				require.Zero(t, header.Flags|header.GSOType)

				h.send(vnet.Header{}, frame(n))
				back := receiveOne(g)
				requireFrame(t, frame(n), back.Bytes)
			}
			c := d.Ports()[0].Counters()
			require.Equal(t, tap.Counters{Sent: 4, SentBytes: 60 + 61 + 1000 + 1514,
				Received: 4, ReceivedBytes: 60 + 61 + 1000 + 1514, Respilled: c.Respilled}, c)
		})
	}
}

func TestLargeFramesPassInOnePiece(t *testing.T) {
	for kind, opt := range guests() {
		if opt.Features&vnet.FeatureHostTSO4 == 0 {
			continue
		}
		t.Run(kind, func(t *testing.T) {
			inNamespace(t)
			d := open(t, tap.Config{})
			g, h := guestOn(t, d, opt), listen(t)
			const longest = 65535 - 54 // the kernel itself cuts what is longer with its Ethernet header
			for _, n := range []int{2000, 2048 - 54, 2049 - 54, 2048, 2049, longest, 30_000, longest} {
				want, sent := large(n)
				g.SendRaw(want, sent, porttest.Layout{Lens: []int{100, 5000}})
				g.Settle()
				header, got := h.receive()
				requireFrame(t, sent, got)
				want.HdrLen = 0
				require.Equal(t, want, header)

				h.send(want, sent)
				back := receiveOne(g)
				requireFrame(t, sent, back.Bytes)
				require.Equal(t, [4]uint16{uint16(want.GSOType), want.GSOSize, want.CsumStart, want.CsumOffset},
					[4]uint16{uint16(back.Header.GSOType), back.Header.GSOSize, back.Header.CsumStart, back.Header.CsumOffset})
			}
			require.EqualValues(t, 8, d.Ports()[0].Counters().Received)
		})
	}
}

// A guest that takes no offloads gets finished segments, each with a checksum that is right.
func TestTheKernelCutsUpWhatTheGuestDoesNotTake(t *testing.T) {
	inNamespace(t)
	d := open(t, tap.Config{})
	g, h := guestOn(t, d, porttest.Options{Features: modern}), listen(t)
	h.send(large(10 * 1448))
	g.Settle()
	frames := g.Frames()
	require.Len(t, frames, 10)
	for _, f := range frames {
		require.Len(t, f.Bytes, 54+1448)
		require.Zero(t, f.Header.Flags|f.Header.GSOType)
		pseudo := vnet.PseudoHeaderSum(6, f.Bytes[26:30], f.Bytes[30:34], uint32(len(f.Bytes)-34))
		require.EqualValues(t, 0xffff, vnet.Combine(vnet.Sum(f.Bytes[34:], 0), pseudo))
	}
}

func TestHeadersThatLieAreDroppedAndCounted(t *testing.T) {
	h, b := large(4000)
	edit := func(f func(*vnet.Header)) vnet.Header { c := h; f(&c); return c }
	tagged := append(append(append([]byte(nil), b[:12]...), 0x81, 0, 0, 5, 0x86, 0xdd), b[14:]...)
	for lie, c := range map[string]struct {
		header vnet.Header
		frame  []byte
	}{
		"checksum behind the frame":    {edit(func(h *vnet.Header) { h.CsumStart = 5000 }), b},
		"checksum half in the frame":   {edit(func(h *vnet.Header) { h.CsumStart = uint16(len(b) - 17) }), b},
		"segmentation of no protocol":  {edit(func(h *vnet.Header) { h.GSOType = 2 }), b},
		"segments of no bytes":         {edit(func(h *vnet.Header) { h.GSOSize = 0 }), b},
		"segmentation, no checksum":    {edit(func(h *vnet.Header) { h.Flags = 0 }), b},
		"fragmentation of UDP":         {edit(func(h *vnet.Header) { h.GSOType = vnet.GSOUDP }), b},
		"IPv6 that is IPv4":            {edit(func(h *vnet.Header) { h.GSOType = vnet.GSOTCPv6 }), b},
		"IPv4 that is IPv6 behind tag": {edit(func(h *vnet.Header) { h.CsumStart += 4 }), tagged},
		"no Ethernet header":           {vnet.Header{}, b[:13]},
		"no frame":                     {vnet.Header{}, nil},
		"longer than any frame":        {vnet.Header{}, frame(65535 + 14 + 8 + 1)},
	} {
		t.Run(lie, func(t *testing.T) {
			inNamespace(t)
			d := open(t, tap.Config{})
			g, host := guestOn(t, d, porttest.Options{Features: modern | allOffloads, MaxFrame: 80 << 10}), listen(t)
			g.SendRaw(c.header, c.frame)
			g.SendFrame(frame(60))
			g.Settle()
			_, got := host.receive()
			requireFrame(t, frame(60), got)
			host.nothing()
			require.Equal(t, tap.Counters{Sent: 1, SentBytes: 60, BadHeaders: 1}, d.Ports()[0].Counters())
		})
	}
}

// What the specification tells a device to ignore does not keep a frame back, and does not reach the kernel.
func TestFieldsThatMeanNothingAreCleared(t *testing.T) {
	inNamespace(t)
	d := open(t, tap.Config{})
	g, host := guestOn(t, d, porttest.Options{Features: modern}), listen(t)
	g.SendRaw(vnet.Header{Flags: vnet.FlagDataValid, HdrLen: 60_000, GSOSize: 9, CsumStart: 60_000, NumBuffers: 7}, frame(100))
	g.Settle()
	header, got := host.receive()
	requireFrame(t, frame(100), got)
	require.Equal(t, vnet.Header{}, header)
}

func TestAFrameThatTheGuestHasNoRoomForIsDroppedWhole(t *testing.T) {
	inNamespace(t)
	d := open(t, tap.Config{MTU: 9000})
	g, h := guestOn(t, d, porttest.Options{Features: vnet.FeatureVersion1}), listen(t)
	h.send(vnet.Header{}, frame(9014))
	h.send(vnet.Header{}, frame(1000))
	g.Until("the second frame is there", func() bool { return d.Ports()[0].Counters().Received == 1 })
	requireFrame(t, frame(1000), g.Frames()[0].Bytes)
	require.EqualValues(t, 1, d.Ports()[0].Counters().TooLong)
}

// The ring holds 32 KiB: a frame of 64 KiB would never fit, so the kernel is told to cut it.
func TestATightRingGetsSegments(t *testing.T) {
	inNamespace(t)
	d := open(t, tap.Config{})
	g, h := guestOn(t, d, porttest.Options{Features: modern | allOffloads, RingSize: 16}), listen(t)
	h.send(vnet.Header{}, frame(60)) // by this the ring is judged
	receiveOne(g)
	h.send(large(10 * 1448))
	count := 0
	g.Until("all segments are there", func() bool { count += len(g.Frames()); return count == 10 })
	require.Zero(t, d.Ports()[0].Counters().TooLong)
	require.Len(t, g.Notices(), 1)
	require.Contains(t, g.Notices()[0].Message, "cannot hold frames of 64 KiB")
}

// Frames wait in the device while the guest has fewer buffers than the longest frame can need, and none is lost.
func TestFramesWaitForBuffers(t *testing.T) {
	inNamespace(t)
	d := open(t, tap.Config{})
	g, h := guestOn(t, d, porttest.Options{Features: modern | allOffloads, RingSize: 64}), listen(t)
	header, b := large(60_000)
	h.send(header, b)
	requireFrame(t, b, receiveOne(g).Bytes)
	g.Withhold = true
	for range 5 {
		h.send(header, b)
	}
	g.Settle()
	n := len(g.Frames())
	require.Less(t, n, 5)
	g.Withhold = false
	g.Post(64)
	g.Until("the rest comes", func() bool { n += len(g.Frames()); return n == 5 })
	require.Zero(t, d.Ports()[0].Counters().TooLong)
}

// hold leaves the guest with a frame that has been read and finds no room, and returns the frame.
func hold(t *testing.T, d *tap.Device, g *porttest.Guest, h *host) []byte {
	t.Helper()
	g.Withhold = true
	header, b := large(60_000)
	for range 3 { // the ring holds two
		h.send(header, b)
	}
	g.Run(20 * time.Millisecond)
	require.Len(t, g.Frames(), 2)
	require.EqualValues(t, 2, d.Ports()[0].Counters().Received)
	return b
}

// tight is a guest whose ring has room for two frames of 60 KB.
func tight() porttest.Options {
	return porttest.Options{Features: modern | allOffloads, RingSize: 64}
}

func TestAFrameThatWasReadWaitsForTheRestOfItsBuffers(t *testing.T) {
	inNamespace(t)
	d := open(t, tap.Config{})
	g, h := guestOn(t, d, tight()), listen(t)
	b := hold(t, d, g, h)
	g.Post(10)
	g.Settle()
	require.Empty(t, g.Frames(), "never short")
	g.Post(64)
	requireFrame(t, b, receiveOne(g).Bytes)
	require.Equal(t, tap.Counters{Received: 3, ReceivedBytes: 3 * uint64(len(b)), Respilled: 1}, d.Ports()[0].Counters())
}

func TestAFrameThatWaitsTooLongIsDropped(t *testing.T) {
	inNamespace(t)
	d := open(t, tap.Config{})
	g, h := guestOn(t, d, tight()), listen(t)
	hold(t, d, g, h)
	h.send(vnet.Header{}, frame(60))
	g.Run(3 * time.Second)
	requireFrame(t, frame(60), receiveOne(g).Bytes)
	require.EqualValues(t, 1, d.Ports()[0].Counters().TooLong)
}

func TestAFrameThatWaitsGoesWithItsRing(t *testing.T) {
	inNamespace(t)
	d := open(t, tap.Config{})
	g, h := guestOn(t, d, tight()), listen(t)
	hold(t, d, g, h)
	g.Disconnect()
	require.EqualValues(t, 1, d.Ports()[0].Counters().TooLong)
}

func TestTheInterfaceDownDropsAndSaysSoOnce(t *testing.T) {
	inNamespace(t)
	d := open(t, tap.Config{})
	g := guestOn(t, d, porttest.Options{Features: modern})
	require.NoError(t, netlink.LinkSetDown(link(t, name)))
	for range 3 {
		g.SendFrame(frame(60))
	}
	g.Settle()
	require.Equal(t, tap.Counters{Down: 3}, d.Ports()[0].Counters())
	require.Len(t, g.Notices(), 1)
	require.Equal(t, "ip link set tap0 up", g.Notices()[0].Value)

	require.NoError(t, netlink.LinkSetUp(link(t, name)))
	h := listen(t)
	g.SendFrame(frame(60))
	g.Settle()
	_, got := h.receive()
	requireFrame(t, frame(60), got)
	require.Len(t, g.Notices(), 2, "and that it is up again")
}

func TestADeletedDeviceIsLost(t *testing.T) {
	for _, how := range []string{"idle", "sending"} {
		t.Run(how, func(t *testing.T) {
			inNamespace(t)
			d := open(t, tap.Config{})
			g := guestOn(t, d, porttest.Options{Features: modern})
			require.NoError(t, netlink.LinkDel(link(t, name)))
			if how == "sending" {
				g.SendFrame(frame(60))
			}
			g.Settle()
			require.ErrorContains(t, <-d.Lost(), "TAP device tap0 is lost")
			g.SendFrame(frame(60))
			g.Settle()
			require.Zero(t, d.Ports()[0].Counters().Sent)
		})
	}
}

func TestADeletedDeviceIsWaitedFor(t *testing.T) {
	inNamespace(t)
	d := open(t, tap.Config{Reopen: true})
	g := guestOn(t, d, porttest.Options{Features: modern | allOffloads})
	require.NoError(t, netlink.LinkDel(link(t, name)))
	g.SendFrame(frame(60))
	g.Run(3 * time.Second)
	require.Empty(t, d.Lost())
	require.True(t, gone(name), "it is not created again")

	makeAgain(t)
	h := listen(t)
	g.Run(3 * time.Second)
	require.True(t, carrier(t, name))
	header, b := large(60_000)
	h.send(header, b)
	requireFrame(t, b, receiveOne(g).Bytes)
	g.SendRaw(header, b)
	g.Settle()
	_, got := h.receive()
	requireFrame(t, b, got)
	require.Len(t, g.Notices(), 2)
}

// makeAgain makes a device of the name of one that was deleted.
func makeAgain(t *testing.T) {
	t.Helper()
	device := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TAP, Queues: 1,
		Flags: netlink.TUNTAP_MULTI_QUEUE_DEFAULTS | netlink.TUNTAP_VNET_HDR}
	require.NoError(t, netlink.LinkAdd(device))
	for _, f := range device.Fds {
		f.Close()
	}
	require.NoError(t, netlink.LinkSetUp(link(t, name)))
}

// unaware is a Port that is told of no event.
type unaware struct{ *tap.Port }

func (u unaware) Turn(now int64, tx []virtqueue.Chain, _ []netbackend.Event, rx *netbackend.RXWriter) (int, int64) {
	return u.Port.Turn(now, tx, nil, rx)
}

// A device can be deleted after the worker has asked for events and before the Port sends: the failed call is then the only
// sign. The guest need not send again for the Port to look for the device.
func TestADeviceWhoseEndOnlyAFrameHasSeenIsWaitedFor(t *testing.T) {
	inNamespace(t)
	d := open(t, tap.Config{Reopen: true})
	g := porttest.New(t, unaware{d.Ports()[0]}, porttest.Options{Features: modern})
	g.MayBreakRules = true
	require.NoError(t, netlink.LinkDel(link(t, name)))
	g.SendFrame(frame(60))
	g.Settle()
	require.Len(t, g.Notices(), 1, "the device was deleted")
	makeAgain(t)
	g.Run(3 * time.Second)
	require.Len(t, g.Notices(), 2, "it is back")
	require.True(t, carrier(t, name))
}

func TestRARPGoesOut(t *testing.T) {
	inNamespace(t)
	d := open(t, tap.Config{})
	p := d.Ports()[0]
	guestOn(t, d, porttest.Options{Features: modern})
	h := listen(t)
	require.NoError(t, p.Announce([6]byte{2, 0, 0, 0, 0, 9}))
	_, got := h.receive()
	requireRARP(t, got)
}

func TestRARPGoesOutWhenTheGuestOfItsFrontEndIsThere(t *testing.T) {
	inNamespace(t)
	d := open(t, tap.Config{})
	p := &portOfWorker{Port: d.Ports()[0]}
	g := porttest.New(t, p, porttest.Options{Features: modern})
	g.MayBreakRules = true
	g.Disconnect()
	require.NoError(t, p.Announce([6]byte{2, 0, 0, 0, 0, 8}))
	require.NoError(t, p.Start(0, p.worker), "the session ends")
	require.NoError(t, p.Announce([6]byte{2, 0, 0, 0, 0, 9}))
	h := listen(t)
	g.Reconnect(false)
	_, got := h.receive()
	requireRARP(t, got)
	g.Disconnect()
	g.Reconnect(false)
	require.NoError(t, p.Announce([6]byte{2, 0, 0, 0, 0, 9}))
	_, got = h.receive()
	requireRARP(t, got)
	h.nothing()
}

// portOfWorker is a Port that remembers its worker.
type portOfWorker struct {
	*tap.Port
	worker netbackend.Worker
}

func (p *portOfWorker) Start(features uint64, w netbackend.Worker) error {
	p.worker = w
	return p.Port.Start(features, w)
}

// requireRARP checks that frame announces 02:00:00:00:00:09.
func requireRARP(t *testing.T, got []byte) {
	t.Helper()
	want := []byte{
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 0x80, 0x35,
		0, 1, 8, 0, 6, 4, 0, 3, 2, 0, 0, 0, 0, 9, 0, 0, 0, 0, 2, 0, 0, 0, 0, 9, 0, 0, 0, 0,
	}
	requireFrame(t, append(want, make([]byte, netbackend.MinFrame-len(want))...), got)
}

func TestTheCarrierFollowsTheGuest(t *testing.T) {
	inNamespace(t)
	d := open(t, tap.Config{})
	require.False(t, carrier(t, name), "nobody is there yet")
	g := guestOn(t, d, porttest.Options{Features: modern})
	require.True(t, carrier(t, name))
	g.Disconnect()
	require.False(t, carrier(t, name))
}
