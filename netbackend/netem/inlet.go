package netem

import (
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/driver"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	// inletBuffers is how many frames a Port can give at a time.
	inletBuffers = 64
	// inletBuffer is the size of a buffer: what the longest frame takes, whatever its offloads. Only what was written takes memory.
	inletBuffer = 68 << 10
	// inletBase is where the device side has the memory.
	inletBase = 1 << 20
)

// inlet is a receive ring of our own, which a Port fills instead of the guest's. Each buffer takes one frame.
type inlet struct {
	memory  []byte
	buffers int // where they are in memory
	driver  *driver.Queue
	queue   *virtqueue.Queue
	writer  netbackend.RXWriter
	idle    [inletBuffers]uint16 // buffers that the Port does not have
	nIdle   int
}

func newInlet() (*inlet, error) {
	const page = 4096
	at := (driver.Bytes(inletBuffers) + page - 1) &^ (page - 1)
	n := &inlet{memory: make([]byte, at+inletBuffers*inletBuffer), buffers: at}
	n.driver = driver.New(inletBuffers, n.memory, inletBase)
	for i := range uint16(inletBuffers) {
		n.driver.Writes(i, guestmem.GPA(inletBase+at+int(i)*inletBuffer), inletBuffer)
		n.idle[i] = i
	}
	n.nIdle = inletBuffers
	cfg := n.driver.Config()
	cfg.Dir = virtqueue.ToGuest
	table := guestmem.NewHeap(guestmem.HeapRegion{GPA: inletBase, UVA: inletBase, Mem: n.memory})
	var err error
	if n.queue, err = virtqueue.New(table, cfg); err != nil {
		return nil, err
	}
	return n, nil
}

// attach lets the Port write frames, or keeps it from that.
func (n *inlet) attach(on bool) {
	if on {
		n.writer.Attach(n.queue, vnet.HeaderLen, false)
		return
	}
	n.writer.Attach(nil, 0, false)
}

// offer lets the Port have room for so many frames at least.
func (n *inlet) offer(frames int) {
	for n.nIdle > inletBuffers-min(frames, inletBuffers) {
		n.nIdle--
		n.driver.Add(n.idle[n.nIdle])
	}
	n.driver.Publish()
	n.writer.Recheck()
}

// room is how many frames the Port could still give.
func (n *inlet) room() int { return inletBuffers - n.nIdle }

// collect returns how many frames the Port has given.
func (n *inlet) collect() int {
	n.queue.Flush()
	return n.driver.Used()
}

// frame is the oldest frame that was given, with its header.
func (n *inlet) frame() (h vnet.Header, frame []byte) {
	head, written := n.driver.Peek(0)
	at := n.buffers + int(head)*inletBuffer
	b := n.memory[at : at+int(written)]
	if len(b) < vnet.HeaderLen {
		return h, nil // a buffer that was given back empty
	}
	h.Decode(b[:vnet.HeaderLen])
	return h, b[vnet.HeaderLen:]
}

// next takes the oldest frame out.
func (n *inlet) next() {
	head, _ := n.driver.Peek(0)
	n.driver.Next(1)
	n.idle[n.nIdle] = head
	n.nIdle++
}
