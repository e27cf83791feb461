package l2switch

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/fdb"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

const (
	rigRing = 64
	rigSlot = 4096
	rigMTU  = vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf
)

// rig is a Port with rings in memory, for one goroutine, without a worker.
type rig struct {
	t        testing.TB
	port     *Port
	mem      *vqtest.Memory
	tx, rx   *vqtest.Driver
	txq, rxq *virtqueue.Queue
	writer   netbackend.RXWriter
	outs     []guestmem.GPA // memory of transmit buffers, by descriptor
	ins      []guestmem.GPA
}

func newRig(t testing.TB, sw *Switch, backing vqtest.Backing) *rig {
	return newRigWith(t, sw, PortConfig{}, backing)
}

func newRigWith(t testing.TB, sw *Switch, cfg PortConfig, backing vqtest.Backing) *rig {
	p, err := sw.NewPort(cfg)
	require.NoError(t, err)
	r := &rig{t: t, port: p, mem: vqtest.NewMemory(rigRing*2*rigSlot+128<<10, backing)}
	queue := func(dir virtqueue.Direction) (*vqtest.Driver, *virtqueue.Queue) {
		d := vqtest.NewDriver(r.mem, vqtest.Options{Size: rigRing})
		cfg := d.Layout()
		cfg.Dir = dir
		q, err := virtqueue.New(r.mem.Table(), cfg)
		require.NoError(t, err)
		return d, q
	}
	r.tx, r.txq = queue(virtqueue.FromGuest)
	r.rx, r.rxq = queue(virtqueue.ToGuest)
	for range rigRing {
		r.outs, r.ins = append(r.outs, r.mem.Alloc(rigSlot, 64)), append(r.ins, r.mem.Alloc(rigSlot, 64))
	}
	r.writer.Attach(r.rxq, vnet.HeaderLen, true)
	r.writer.Strict = true
	require.NoError(t, p.Start(rigMTU|receiveOffloads|transmitOffloads, porttest.DeafWorker{}))
	p.RingsChanged(netbackend.RingState{Connected: true, Transmit: true, Receive: true})
	return r
}

// put adds a frame of n bytes to the transmit ring, and returns its memory, nil if there is no room.
func (r *rig) put(n int) []byte { return r.putWith(&vnet.Header{}, n) }

// putWith is put with a virtio-net header.
func (r *rig) putWith(h *vnet.Header, n int) []byte {
	if r.tx.Free() == 0 {
		return nil
	}
	head := r.tx.Take(1)[0]
	r.tx.RawDesc(head, vqtest.Desc{Addr: uint64(r.outs[head]), Len: uint32(vnet.HeaderLen + n)})
	r.tx.AddHead(head)
	b := r.mem.Bytes(r.outs[head], vnet.HeaderLen+n)
	h.Encode(b[:vnet.HeaderLen])
	return b[vnet.HeaderLen:]
}

// post makes up to n receive buffers available.
func (r *rig) post(n int) {
	for range min(n, r.rx.Free()) {
		head := r.rx.Take(1)[0]
		r.rx.RawDesc(head, vqtest.Desc{Addr: uint64(r.ins[head]), Len: 2048, Flags: vqtest.Write})
		r.rx.AddHead(head)
	}
	r.rx.Publish()
}

// turn gives the Port a turn.
func (r *rig) turn(now int64) error { return guestmem.Guard(func() { r.round(now) }) }

// round is turn for memory that does not go away.
func (r *rig) round(now int64) {
	r.tx.Publish()
	r.writer.Recheck()
	done, _ := r.port.Turn(now, r.txq.Fetch(128), nil, &r.writer)
	r.txq.UseN(done)
	r.txq.Flush()
	r.rxq.Flush()
}

// sent frees what the device is done with.
func (r *rig) sent() {
	for {
		if _, _, ok := r.tx.Used(); !ok {
			return
		}
	}
}

// receive calls take with each buffer that was filled, without its header.
func (r *rig) receive(take func(frame []byte)) {
	for {
		head, n, ok := r.rx.Used()
		if !ok {
			return
		}
		if take != nil && n > vnet.HeaderLen {
			take(r.mem.Bytes(r.ins[head], int(n))[vnet.HeaderLen:])
		}
	}
}

// addresses writes the addresses of a frame.
func addresses(b []byte, to, from mac) {
	binary.LittleEndian.PutUint64(b, uint64(to)|uint64(from)<<48)
	binary.LittleEndian.PutUint32(b[8:], uint32(from>>16))
	b[12], b[13] = 0x88, 0xb5
}

// rigMAC is the address of guest i.
func rigMAC(i int) mac { return fdb.MACOf([6]byte{2, 0, 0, 0, 0, byte(i)}) }

// whole checks that no slot of an inbox is lost, nor taken by anybody, when nothing waits in it.
func (r *rig) whole() {
	r.t.Helper()
	in := &r.port.inbox
	require.Zero(r.t, in.count)
	require.Equal(r.t, slots, in.left)
	require.Equal(r.t, [MaxPorts]uint16{}, in.held)
	seen := map[uint16]bool{}
	for _, slot := range in.free {
		seen[slot] = true
	}
	require.Len(r.t, seen, slots)
}
