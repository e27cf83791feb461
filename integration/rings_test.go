package integration

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/qemu"
)

// The queues of a network card with one pair.
const (
	receiveQueue  = 0
	transmitQueue = 1
)

// ringIndex is the offset of the idx field in the avail and in the used area (virtio 1.2, sections 2.7.6 and 2.7.8).
const ringIndex = 2

// guestRing is a virtqueue as it stands in the memory of a QEMU guest.
type guestRing struct {
	memory      io.ReaderAt
	size        int
	avail, used int64 // where the areas are
}

// findRing asks the guest where a ring of its network card is. (QEMU's own x-query-virtio-queue-status takes the ring away
// from the back end to answer.)
func (l *lab) findRing(queue int) guestRing {
	l.t.Helper()
	var ring proto.Ring
	l.do(&ring, "ring", card, queue)
	return guestRing{guestMemory(l.t, l.guest.qemu), ring.Size, ring.Avail, ring.Used}
}

// guestMemory opens QEMU's memfd. In a machine with less than 2 GiB guest-physical addresses are offsets in it.
func guestMemory(t *testing.T, m *qemu.Machine) io.ReaderAt {
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", m.PID()))
	require.NoError(t, err)
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, "/memfd:") {
			memory, err := os.Open(link)
			require.NoError(t, err)
			t.Cleanup(func() { memory.Close() })
			return memory
		}
	}
	require.Fail(t, "QEMU has no memfd")
	return nil
}

// index reads the idx field of the avail or used area.
func (r guestRing) index(t *testing.T, area int64) uint16 {
	var idx [2]byte
	_, err := r.memory.ReadAt(idx[:], area+ringIndex)
	require.NoError(t, err)
	return binary.LittleEndian.Uint16(idx[:])
}

// outstanding returns how many chains the driver has made available and not got back.
func (r guestRing) outstanding(t *testing.T) int {
	return int(r.index(t, r.avail) - r.index(t, r.used))
}

// drain calls step until the device has given back every chain that the driver has made available, and returns an error if
// it does not within the limit: vring has lost the rest.
func (r guestRing) drain(t *testing.T, limit time.Duration, step func()) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(time.Millisecond) {
		step()
		missing := r.outstanding(t)
		if missing == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d descriptors are missing", missing, r.size)
		}
	}
}

// requireAllDescriptors proves that vring holds back no descriptor of either ring. Transmit: with the guest quiet, all
// that it has sent is returned. Receive: with QEMU frozen, so that nothing is posted anew, datagrams into the guest use
// up every buffer that was posted; one that vring had lost would stay.
func (l *lab) requireAllDescriptors() {
	l.t.Helper()
	transmit, receive := l.findRing(transmitQueue), l.findRing(receiveQueue)
	require.NoError(l.t, transmit.drain(l.t, soon, func() {}), "transmit queue")

	require.True(l.t, assertEventually(func() bool { return receive.outstanding(l.t) > receive.size/2 }),
		"the driver refills before half of its buffers are used")
	require.True(l.t, echoed(l.udpIn, []byte("the way is known")))
	thaw := l.freeze()
	defer thaw()
	l.exhaust(receive)
}

// freeze stops QEMU as it stands: its guest does nothing more, but the rings stay with vring. thaw lets it go on.
func (l *lab) freeze() (thaw func()) {
	l.t.Helper()
	require.NoError(l.t, l.guest.Signal(syscall.SIGSTOP))
	return func() { require.NoError(l.t, l.guest.Signal(syscall.SIGCONT)) }
}

// exhaust sends datagrams into a frozen guest until its receive queue has no buffer left.
func (l *lab) exhaust(receive guestRing) {
	l.t.Helper()
	sendSome := func() {
		for range 16 {
			_, _ = l.udpIn.Write(bytes.Repeat([]byte{1}, 100))
		}
	}
	require.NoError(l.t, receive.drain(l.t, soon, sendSome), "receive queue")
}
