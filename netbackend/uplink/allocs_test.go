package uplink

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/l2switch"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// place is a Port with the receive ring of a driver that posts each buffer again.
type place struct {
	*Port
	mem    *vqtest.Memory
	ring   *vqtest.Driver
	queue  *virtqueue.Queue
	bufs   []guestmem.GPA
	writer netbackend.RXWriter
	posts  int // buffers for each turn; 0 for all that there are
}

const rigRing, rigBuf = 128, 2048

func newPlace(t *testing.T, sw *l2switch.Switch, cfg nat.Config) *place {
	engine, err := nat.New(cfg)
	require.NoError(t, err)
	lan, err := sw.NewPort(l2switch.PortConfig{})
	require.NoError(t, err)
	p, err := New(lan, engine)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	r := &place{Port: p, mem: vqtest.NewMemory(2*rigRing*rigBuf+64<<10, vqtest.Heap)}
	r.ring = vqtest.NewDriver(r.mem, vqtest.Options{Size: rigRing})
	layout := r.ring.Layout()
	layout.Dir = virtqueue.ToGuest
	r.queue, err = virtqueue.New(r.mem.Table(), layout)
	require.NoError(t, err)
	for range rigRing {
		r.bufs = append(r.bufs, r.mem.Alloc(rigBuf, 64))
	}
	r.writer.Attach(r.queue, vnet.HeaderLen, true)
	require.NoError(t, p.Start(p.Offers()|vnet.FeatureVersion1|vnet.FeatureMrgRxBuf, porttest.DeafWorker{}))
	p.RingsChanged(netbackend.RingState{Connected: true, Transmit: true, Receive: true})
	return r
}

// chain is a frame of the guest's in memory of its own.
func (r *place) chain(frame []byte) virtqueue.Chain {
	n := vnet.HeaderLen + len(frame)
	at := r.mem.Alloc(n, 64)
	copy(r.mem.Bytes(at, n)[vnet.HeaderLen:], frame)
	iov, ok := r.mem.Table().AppendGPA(make([]guestmem.Iovec, 0, 1), at, uint64(n))
	if !ok {
		panic("the frame is outside of memory")
	}
	return virtqueue.Chain{Iov: iov, Len: uint32(n)}
}

// turn gives the Port a turn, and returns how many frames the guest has received.
func (r *place) turn(now int64, tx []virtqueue.Chain) (done, received int) {
	for n := 0; r.ring.Free() > 0 && (r.posts == 0 || n < r.posts); n++ {
		head := r.ring.Take(1)[0]
		r.ring.RawDesc(head, vqtest.Desc{Addr: uint64(r.bufs[head]), Len: rigBuf, Flags: vqtest.Write})
		r.ring.AddHead(head)
	}
	r.ring.Publish()
	r.writer.Recheck()
	done, _ = r.Turn(now, tx, nil, &r.writer)
	r.queue.Flush()
	for {
		if _, _, ok := r.ring.Used(); !ok {
			return done, received
		}
		received++
	}
}

// Frames for the router, for another guest and for all are sorted, sent and received without an allocation.
func TestATurnAllocatesNothing(t *testing.T) {
	cfg := l2switch.Default()
	cfg.Flood = 0
	sw, err := l2switch.New(cfg)
	require.NoError(t, err)
	c := nat.DefaultConfig()
	c.ResolvConf = ""
	configs, err := c.ForGuests(2)
	require.NoError(t, err)
	a, b := newPlace(t, sw, configs[0]), newPlace(t, sw, configs[1])
	frame := func(to, from []byte) []byte {
		f := append(append(append([]byte{}, to...), from...), 0x88, 0xb5)
		return append(f, make([]byte, 46)...)
	}
	macA, macB := []byte{2, 0, 0, 0, 0, 1}, []byte{2, 0, 0, 0, 0, 2}
	now := int64(1e9)
	b.turn(now, []virtqueue.Chain{b.chain(frame([]byte{255, 255, 255, 255, 255, 255}, macB))})
	router := configs[0].GatewayMAC
	tx := []virtqueue.Chain{
		a.chain(frame(router[:], macA)), a.chain(frame(macB, macA)), a.chain(frame([]byte{255, 255, 255, 255, 255, 255}, macA)),
		a.chain(frame(router[:], macA)), a.chain(frame(macB, macA)),
	}
	a.turn(now, tx)
	b.turn(now, nil)
	done, received := 0, 0
	require.Zero(t, testing.AllocsPerRun(100, func() {
		now += 1e6
		done, _ = a.turn(now, tx)
		_, received = b.turn(now, nil)
	}))
	require.Equal(t, len(tx), done)
	require.Equal(t, 3, received)
	counters := a.Counters()
	require.EqualValues(t, 2*102, counters.NAT.Unsupported, "what the router got, whose type it does not know")
	require.EqualValues(t, 3*102, counters.Switch.Sent)
}
