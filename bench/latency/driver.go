package latency

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/vhostuser/frontend"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

const (
	ringSize  = 256
	frameLen  = 64
	bufferLen = 2048
	// patience is how long a frame may be away.
	patience = 10 * time.Second
)

// driver is a guest with one frame.
type driver struct {
	conn    *frontend.Conn
	mem     *vqtest.Memory
	rx, tx  *vqtest.Driver
	kicks   [2]int // receive, transmit
	calls   [2]int
	frame   guestmem.GPA            // behind its virtio-net header
	buffers map[uint16]guestmem.GPA // receive buffers, by head
}

// connect brings a device up on the back end that listens on the socket.
func connect(socket string) (*driver, error) {
	d := &driver{mem: vqtest.NewMemory(4<<20, vqtest.Memfd), buffers: map[uint16]guestmem.GPA{}}
	options := vqtest.Options{Size: ringSize}
	d.rx, d.tx = vqtest.NewDriver(d.mem, options), vqtest.NewDriver(d.mem, options)
	d.frame = d.mem.Alloc(vnet.HeaderLen+frameLen, 64)
	for range ringSize {
		d.post(d.mem.Alloc(bufferLen, 64))
	}
	d.rx.Publish()
	d.tx.DisableInterrupts()
	d.rx.EnableInterrupts()
	setup := frontend.Setup{
		Features: vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf, Memory: []guestmem.Region{d.mem.Region()}, Order: frontend.DPDK,
	}
	for i, ring := range []*vqtest.Driver{d.rx, d.tx} {
		var err, err2 error
		d.kicks[i], err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		d.calls[i], err2 = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		if err := errors.Join(err, err2); err != nil {
			return nil, err
		}
		at := ring.Layout()
		setup.Rings = append(setup.Rings, frontend.Ring{
			Num: ringSize, Desc: at.Desc, Avail: at.Avail, Used: at.Used, KickFD: d.kicks[i], CallFD: d.calls[i],
		})
	}
	var err error
	if d.conn, err = frontend.Dial(socket); err != nil {
		return nil, err
	}
	if err := d.conn.Setup(setup); err != nil {
		return nil, err
	}
	if _, err := d.conn.GetFeatures(); err != nil { // answered when the rings are enabled
		return nil, err
	}
	return d, kick(d.kicks[0])
}

// close hangs up, and forgets the guest.
func (d *driver) close() error {
	err := d.conn.Close()
	for i := range d.kicks {
		err = errors.Join(err, unix.Close(d.kicks[i]), unix.Close(d.calls[i]))
	}
	d.mem.Close()
	return err
}

// post adds a receive buffer.
func (d *driver) post(at guestmem.GPA) {
	head, _ := d.rx.Add(vqtest.Buf{GPA: at, Len: bufferLen, Write: true}) // there are as many as descriptors
	d.buffers[head] = at
}

// roundTrip sends frame i and waits until it is back.
func (d *driver) roundTrip(i uint64) (time.Duration, error) {
	sent := d.mem.Bytes(d.frame+vnet.HeaderLen, frameLen)
	for at := 0; at < frameLen; at += 8 {
		binary.BigEndian.PutUint64(sent[at:], i*0x9e37_79b9_7f4a_7c15+uint64(at))
	}
	start := time.Now()
	if _, ok := d.tx.Add(vqtest.Buf{GPA: d.frame, Len: vnet.HeaderLen + frameLen}); !ok {
		return 0, errors.New("the transmit ring does not come back")
	}
	if d.tx.Publish() {
		if err := kick(d.kicks[1]); err != nil {
			return 0, err
		}
	}
	head, written, err := d.receive(start.Add(patience))
	took := time.Since(start)
	if err != nil {
		return 0, fmt.Errorf("frame %d: %w", i, err)
	}
	at := d.buffers[head]
	got := d.mem.Bytes(at+vnet.HeaderLen, int(written)-vnet.HeaderLen)
	if !bytes.Equal(got, sent) {
		return 0, fmt.Errorf("frame %d came back changed: % x, not % x", i, got, sent)
	}
	d.post(at)
	d.rx.Publish() // nobody waits for it
	for {
		if _, _, ok := d.tx.Used(); !ok {
			return took, nil
		}
	}
}

// receive sleeps until there is a frame.
func (d *driver) receive(limit time.Time) (head uint16, written uint32, err error) {
	fds := []unix.PollFd{{Fd: int32(d.calls[0]), Events: unix.POLLIN}}
	var counter [8]byte
	for {
		if head, written, ok := d.rx.Used(); ok {
			return head, written, nil
		}
		if time.Now().After(limit) {
			return 0, 0, errors.New("was lost")
		}
		if _, err := unix.Poll(fds, 100); err != nil && err != unix.EINTR {
			return 0, 0, err
		}
		_, _ = unix.Read(d.calls[0], counter[:])
	}
}

func kick(fd int) error {
	_, err := unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	return err
}
