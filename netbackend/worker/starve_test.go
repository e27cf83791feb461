package worker_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/stub"
	"github.com/vringnet/vring/netbackend/worker"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vnet"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// card is a device and the rings of a guest's network card, of 256 entries each.
type card struct {
	t      *testing.T
	device *worker.Device
	memory *vqtest.Memory
	rx, tx *vqtest.Driver
	kicks  [2]int
}

func newCard(t *testing.T, port netbackend.Port, features uint64) *card {
	c := &card{t: t, memory: vqtest.NewMemory(4<<20, vqtest.Heap)}
	t.Cleanup(c.memory.Close)
	var err error
	c.device, err = worker.New(worker.Config{Ports: []netbackend.Port{port}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.device.Close()) })
	opt := vqtest.Options{Size: 256, EventIdx: features&vnet.FeatureEventIdx != 0, Indirect: true}
	c.rx, c.tx = vqtest.NewDriver(c.memory, opt), vqtest.NewDriver(c.memory, opt)
	require.NoError(t, c.device.SetFeatures(features))
	require.NoError(t, c.device.SetMemory(c.memory.Table()))
	for i, d := range []*vqtest.Driver{c.rx, c.tx} {
		c.kicks[i], err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		require.NoError(t, err)
		t.Cleanup(func() { _ = unix.Close(c.kicks[i]) })
		require.NoError(t, c.device.StartRing(i, d.Layout(), virtqueue.RingFDs{Kick: c.kicks[i], Call: -1, Err: -1}))
		require.NoError(t, c.device.EnableRing(i, true))
	}
	return c
}

// post makes n receive buffers available that are like d, and kicks if that is wanted.
func (c *card) post(d vqtest.Desc, n int) (kicked bool) {
	for range n {
		ids := c.rx.Take(1)
		c.rx.RawDesc(ids[0], d)
		c.rx.AddHead(ids[0])
	}
	return c.publish(0, c.rx)
}

// fill fills the receive ring.
func (c *card) fill(f vqtest.Fill) {
	if f.Post(c.rx) {
		c.kick(0)
	}
}

func (c *card) publish(ring int, d *vqtest.Driver) (kicked bool) {
	if d.Publish() {
		c.kick(ring)
		return true
	}
	return false
}

func (c *card) kick(ring int) { _, _ = unix.Write(c.kicks[ring], []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

func (c *card) buffer(n int) vqtest.Desc {
	return vqtest.Desc{Addr: uint64(c.memory.Alloc(n, 16)), Len: uint32(n), Flags: vqtest.Write}
}

// send sends a frame of n bytes.
func (c *card) send(n int) {
	n += vnet.HeaderLen
	_, ok := c.tx.Add(vqtest.Buf{GPA: c.memory.Alloc(n, 16), Len: uint32(n)})
	require.True(c.t, ok)
	c.publish(1, c.tx)
}

// turns returns how many turns the thread has taken.
func (c *card) turns() (n uint64) {
	require.NoError(c.t, c.device.Do(0, func(t *worker.Thread) { n = t.Stats().Turns }))
	return n
}

// requireRest fails if the thread goes on to take turns though the guest does nothing.
func (c *card) requireRest() {
	c.t.Helper()
	require.Eventually(c.t, func() bool {
		before := c.turns()
		time.Sleep(50 * time.Millisecond)
		return c.turns()-before <= 4 // those that Do causes, and a timer
	}, patience, time.Millisecond, "a ring that holds no frame costs what an empty one costs")
}

func TestAReceiveRingThatHoldsNoFrameCostsNothing(t *testing.T) {
	source := func() netbackend.Port {
		s, err := stub.NewSource(stub.SourceConfig{Size: 1400})
		require.NoError(t, err)
		return s
	}
	ports := map[string]func() netbackend.Port{
		"echo":   func() netbackend.Port { return stub.NewEcho() },
		"source": source,
		"picky":  func() netbackend.Port { return &picky{} },
	}
	for port, make := range ports {
		for _, fill := range vqtest.UselessFills() {
			for name, features := range map[string]uint64{
				"mergeable":                  vnet.FeatureVersion1 | vnet.FeatureIndirectDesc | vnet.FeatureMrgRxBuf,
				"mergeable with event index": vnet.FeatureVersion1 | vnet.FeatureIndirectDesc | vnet.FeatureMrgRxBuf | vnet.FeatureEventIdx,
				"single":                     vnet.FeatureVersion1 | vnet.FeatureIndirectDesc,
			} {
				t.Run(port+", "+fill.Name+", "+name, func(t *testing.T) {
					t.Parallel()
					c := newCard(t, make(), features)
					for range 5 {
						c.send(1400)
					}
					c.fill(fill)
					c.requireRest()
				})
			}
		}
	}
}

// picky wants a hundred buffers at once, and uses none until then.
type picky struct {
	sink
	ahead atomic.Int64
}

func (p *picky) Turn(_ int64, tx []virtqueue.Chain, _ []netbackend.Event, rx *netbackend.RXWriter) (int, int64) {
	const enough = 100 * 2048
	ahead := rx.Buffered(enough)
	p.ahead.Store(int64(ahead))
	if ahead >= enough {
		return len(tx), 0
	}
	rx.Starve()
	return 0, 0
}

// A thread that sleeps though there are buffers is woken by each one more.
func TestEachBufferMoreIsLookedAtThoughThoseBeforeWereNotUsed(t *testing.T) {
	for name, features := range map[string]uint64{"by index": vnet.FeatureEventIdx, "by flag": 0} {
		t.Run(name, func(t *testing.T) {
			port := &picky{}
			c := newCard(t, port, features|vnet.FeatureVersion1|vnet.FeatureMrgRxBuf|vnet.FeatureIndirectDesc)
			for i := range 99 {
				c.post(c.buffer(2048), 1)
				require.Eventually(t, func() bool { return port.ahead.Load() == int64(2048*(i+1)-vnet.HeaderLen) },
					patience, 100*time.Microsecond, "buffer %d", i)
				if i%10 == 0 {
					c.requireRest()
				}
			}
		})
	}
}
