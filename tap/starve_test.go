package tap_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/worker"
	"github.com/vringnet/vring/tap"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vnet"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// idleGuest is a guest whose driver fills its receive ring and then does nothing. Its Port has a thread of its own.
type idleGuest struct {
	t      *testing.T
	device *worker.Device
	rx     *vqtest.Driver
	kickFD int
}

func newIdleGuest(t *testing.T, d *tap.Device, features uint64, f vqtest.Fill) *idleGuest {
	t.Helper()
	g := &idleGuest{t: t}
	m := vqtest.NewMemory(2<<20, vqtest.Memfd)
	t.Cleanup(m.Close)
	var err error
	g.device, err = worker.New(worker.Config{Ports: []netbackend.Port{d.Ports()[0]}})
	require.NoError(t, err)
	g.kickFD, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(g.kickFD) })
	g.rx = vqtest.NewDriver(m, vqtest.Options{Size: 512, EventIdx: features&vnet.FeatureEventIdx != 0, Indirect: true})
	f.Post(g.rx)
	require.NoError(t, g.device.SetFeatures(features|vnet.FeatureIndirectDesc))
	require.NoError(t, g.device.SetMemory(m.Table()))
	require.NoError(t, g.device.StartRing(0, g.rx.Layout(), virtqueue.RingFDs{Kick: g.kickFD, Call: -1, Err: -1}))
	require.NoError(t, g.device.EnableRing(0, true))
	return g
}

// turns returns how many turns the thread has had.
func (g *idleGuest) turns() (n uint64) {
	require.NoError(g.t, g.device.Do(0, func(t *worker.Thread) { n = t.Stats().Turns }))
	return n
}

// requireRest fails the test if the thread goes on to take turns though neither side does anything.
func (g *idleGuest) requireRest() {
	g.t.Helper()
	require.Eventually(g.t, func() bool {
		before := g.turns()
		time.Sleep(20 * time.Millisecond)
		return g.turns()-before <= 4 // those that Do causes, and a timer
	}, soon, time.Millisecond, "a ring that holds no frame costs what an empty one costs")
}

// received tells that the guest has got a frame since the last call.
func (g *idleGuest) received() (some bool) {
	for _, n, ok := g.rx.Used(); ok; _, n, ok = g.rx.Used() {
		some = some || n > vnet.HeaderLen
	}
	return some
}

func TestAReceiveRingThatHoldsNoFrameCostsNothing(t *testing.T) {
	for name, features := range map[string]uint64{
		"mergeable with event index": modern | allOffloads | vnet.FeatureEventIdx,
		"single":                     vnet.FeatureVersion1,
	} {
		for _, fill := range vqtest.UselessFills() {
			t.Run(fill.Name+", "+name, func(t *testing.T) {
				inNamespace(t)
				d := open(t, tap.Config{})
				h := listen(t)
				g := newIdleGuest(t, d, features, fill)
				defer func() { require.NoError(t, g.device.Close()) }()
				for range 64 {
					h.send(vnet.Header{}, frame(1400))
				}
				g.requireRest()

				g.received()
				if g.rx.AddGood(100) {
					_, _ = unix.Write(g.kickFD, []byte{1, 0, 0, 0, 0, 0, 0, 0})
				}
				require.Eventually(t, func() bool {
					h.send(vnet.Header{}, frame(1400)) // those before may be lost
					return g.received()
				}, soon, time.Millisecond, "good buffers are used")
				g.requireRest()
			})
		}
	}
}
