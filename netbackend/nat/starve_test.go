package nat_test

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/netbackend/worker"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vnet"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// refill gives the only pair a new receive ring, which f fills. From here on the guest does nothing of its own accord: it
// has turns no more.
func (h *hopper) refill(f vqtest.Fill) *hopperPair {
	h.t.Helper()
	p := h.pairs[0]
	_, err := h.device.StopRing(0)
	require.NoError(h.t, err)
	p.rx = h.driver(2 * hopperRing) // so that there is an entry for a good buffer in any case
	f.Post(p.rx)
	fds := virtqueue.RingFDs{Kick: p.kick[0], Call: -1, Err: -1}
	require.NoError(h.t, h.device.StartRing(0, p.rx.Layout(), fds))
	require.NoError(h.t, h.device.EnableRing(0, true))
	return p
}

// turns returns how many turns the first pair's thread has had.
func (h *hopper) turns() (n uint64) {
	require.NoError(h.t, h.device.Do(0, func(t *worker.Thread) { n = t.Stats().Turns }))
	return n
}

// requireRest fails the test if the thread goes on to take turns though neither side does anything.
func (h *hopper) requireRest() {
	h.t.Helper()
	require.Eventually(h.t, func() bool {
		before := h.turns()
		time.Sleep(20 * time.Millisecond)
		return h.turns()-before <= 4 // those that Do causes, and a timer
	}, 2*time.Minute, time.Millisecond, "a ring that holds no frame costs what an empty one costs")
}

// received tells that the guest has got a frame since the last call.
func (p *hopperPair) received() (some bool) {
	for _, n, ok := p.rx.Used(); ok; _, n, ok = p.rx.Used() {
		some = some || n > vnet.HeaderLen
	}
	return some
}

// waiting are what can wait for room in the guest's receive ring. Each function readies the bench and returns another one,
// which lets it come.
var waiting = map[string]func(b *bench, h *hopper) (come func()){
	"datagrams": func(b *bench, h *hopper) func() {
		u := &udpBench{bench: b, host: b.listenUDP()}
		u.hello()
		return func() {
			for i := range 64 {
				_, err := u.host.WriteToUDPAddrPort(numbered(i, 1400), u.from)
				require.NoError(b.t, err)
			}
		}
	},
	"datagrams of a forward": func(b *bench, h *hopper) func() {
		c, err := net.Dial("udp4", h.forward.String())
		require.NoError(b.t, err)
		b.t.Cleanup(func() { _ = c.Close() })
		return func() {
			for i := range 64 {
				_, err := c.Write(numbered(i, 1400))
				require.NoError(b.t, err)
			}
		}
	},
	"a stream": func(b *bench, h *hopper) func() {
		_, host := b.connect()
		return func() {
			_, err := host.Write(noise(60_000))
			require.NoError(b.t, err)
		}
	},
	"the end of a stream": func(b *bench, h *hopper) func() {
		_, host := b.connect()
		return func() { require.NoError(b.t, host.CloseWrite()) }
	},
	"connections for the guest": func(b *bench, h *hopper) func() {
		return func() {
			for range 5 {
				c, err := net.DialTimeout("tcp4", h.forward.String(), time.Minute)
				require.NoError(b.t, err)
				b.t.Cleanup(func() { _ = c.Close() })
			}
		}
	},
}

func TestAReceiveRingThatHoldsNoFrameCostsNothing(t *testing.T) {
	const offers = vnet.FeatureCSum | vnet.FeatureGuestCSum | vnet.FeatureGuestTSO4
	for name, features := range map[string]uint64{
		"mergeable":                  vnet.FeatureMrgRxBuf,
		"mergeable with event index": vnet.FeatureMrgRxBuf | offers | vnet.FeatureEventIdx,
		"single":                     0,
	} {
		for what, ready := range waiting {
			if what != "datagrams" && what != "a stream" && features&vnet.FeatureEventIdx == 0 {
				continue // the ways into the ring are the same
			}
			for _, fill := range vqtest.UselessFills() {
				t.Run(what+", "+fill.Name+", "+name, func(t *testing.T) {
					t.Parallel()
					guest := porttest.Options{Features: features | vnet.FeatureVersion1 | vnet.FeatureIndirectDesc}
					b, h := newQueuesOf(t, guest, 1)
					come := ready(b, h)
					p := h.refill(fill)
					come()
					h.requireRest()

					p.received()
					if p.rx.AddGood(100) {
						kick(p.kick[0])
					}
					require.Eventually(t, p.received, 2*time.Minute, time.Millisecond, "good buffers are used at once")
					h.requireRest()
				})
			}
		}
	}
}
