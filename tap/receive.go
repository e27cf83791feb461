package tap

import (
	"log/slog"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	// receiveBurst is how many frames to the guest are read in a turn.
	receiveBurst = 128
	// smallRun is so many frames without a large one that the next is expected to be small, too. To expect too much costs
	// some iovecs, to expect too little the copy of a large frame.
	smallRun = 16
	// patience, in nanoseconds, is how long a frame is left in the device until the guest has posted as many receive
	// buffers as before: it then passes by one copy. After that it is read all the same.
	patience = int64(10e6)
	// holdPatience is how long a frame that was read waits for the rest of the buffers that it needs.
	holdPatience = int64(2e9)
	// leastBuffer is the length of the longest frame that every driver has room for (virtio 1.2 section 5.1.6.3.1, without the
	// header). Buffers that do not hold a frame of this length are useless. What is longer may just not be meant for the guest.
	leastBuffer = 1514
)

// receiver is the part of a Port that has to do with frames to the guest.
type receiver struct {
	came   [vnet.HeaderLen]byte // header from the kernel
	spill  []byte
	small  int   // frames since the last large one
	usual  int   // most room for a frame that the guest's ring has offered, up to what a frame can need
	until  int64 // when the wait for that much ends, 0 for no wait
	tight  bool  // the ring cannot hold frames of 64 KiB
	judged bool  // tight is known
	held   held
}

// held is a frame that was read and has not found room. Its beginning is in the oldest receive buffers, which were
// reserved for it, and its end in the spill buffer.
type held struct {
	length  int     // 0 for none
	spilled int     // of it
	at      uintptr // where its beginning is
	header  vnet.Header
	until   int64 // when it is given up
}

func newReceiver() receiver { return receiver{spill: make([]byte, maxFrame+1)} }

// forget forgets what was learned about a driver.
func (p *Port) forget() {
	p.drop()
	p.usual, p.until, p.judged, p.tight, p.small = 0, 0, false, false, 0
}

// drop gives up a frame that is held.
func (p *Port) drop() {
	if p.held.length != 0 {
		p.held.length = 0
		p.counters.TooLong++
	}
}

// offloads are those that the guest takes and that its ring can hold.
func (p *Port) offloads() int {
	if p.tight {
		return offloadsOf(p.features) &^ largeOffloads
	}
	return offloadsOf(p.features)
}

// longest is the length of the longest frame that is likely to come.
func (p *Port) longest() int {
	if p.offloads()&largeOffloads != 0 {
		return largeFrame
	}
	return p.ordinary()
}

// ordinary is the length of the longest frame that nobody is to cut up.
func (p *Port) ordinary() int { return p.device.MTU() + vnet.EthernetHeaderLen + 2*vlanTagLen }

// expected is the length of the frame that is likely to come next, at most.
func (p *Port) expected() int {
	if p.small >= smallRun {
		return p.ordinary()
	}
	return p.longest()
}

// receive fills the guest's ring from the queue, and returns when it wants another turn.
func (p *Port) receive(now int64, rx *netbackend.RXWriter) (next int64) {
	for range receiveBurst {
		if !p.release(now, rx) {
			return p.held.until
		}
		if !p.attached || !p.readable {
			return 0
		}
		if !p.roomy(now, rx) {
			return p.until
		}
		p.readFrame(now, rx)
	}
	return now
}

// roomy tells whether the guest has posted as many buffers as the longest frame can need, or as it has ever posted.
func (p *Port) roomy(now int64, rx *netbackend.RXWriter) bool {
	need := p.longest()
	room := rx.Buffered(need)
	if room == 0 && rx.Available() && rx.Reserve(netbackend.Request{Min: 1, Max: 1}).Len() > 0 { // gives malformed and empty buffers back
		room = rx.Buffered(need)
	}
	if room > 0 && !p.judged {
		p.judge(rx)
		need = p.longest()
	}
	p.usual = max(p.usual, min(room, need))
	switch {
	case room >= min(p.usual, need) && room > 0:
		p.until = 0
		return true
	case room > 0 && p.until != 0 && now >= p.until:
		p.usual, p.until = room, 0
		return true
	}
	rx.Starve()
	switch {
	case room == 0:
		p.until = 0
	case p.until == 0:
		p.until = now + patience
	}
	return false
}

// judge finds out by the first buffers that the guest posts whether its ring can hold frames of 64 KiB. If it cannot,
// the kernel is to cut them: else the guest would never get one.
func (p *Port) judge(rx *netbackend.RXWriter) {
	p.judged = true
	if rx.Capacity() >= largeFrame || p.offloads()&largeOffloads == 0 {
		return
	}
	p.tight = true
	if err := p.device.want(p.queue, p.offloads()); err != nil {
		p.raise(slog.LevelWarn, "offloads cannot be changed", "err", err.Error())
		return
	}
	p.raise(slog.LevelInfo, "the guest's receive ring cannot hold frames of 64 KiB: segmentation offload to it is off", "tap", p.device.cfg.Name)
}

// readFrame reads one frame into the guest's buffers.
func (p *Port) readFrame(now int64, rx *netbackend.RXWriter) {
	lease := rx.Reserve(netbackend.Request{Min: 1, Max: p.expected()})
	if lease.Len() == 0 {
		return // what looked like room was malformed
	}
	iov := append(p.iov[:0], guestmem.PieceOf(p.came[:]))
	iov = append(iov, lease.Frame(0)...)
	iov = append(iov, guestmem.PieceOf(p.spill))
	n, errno := guestmem.Readv(p.queue.fd, iov)
	if errno != 0 {
		p.unread(errno)
		return
	}
	n -= vnet.HeaderLen
	if n < vnet.EthernetHeaderLen {
		p.counters.ReadErrors++
		return
	}
	if n <= p.ordinary() {
		p.small++
	} else {
		p.small = 0
	}
	p.deliver(now, lease, n)
}

// unread deals with an error of a read.
func (p *Port) unread(errno unix.Errno) {
	if errno == unix.EAGAIN {
		p.readable = false
		return
	}
	p.counters.ReadErrors++
	if !p.failed(errno) && errno != unix.EINVAL { // EINVAL is about one frame, which is gone
		p.readable = false
	}
}

// deliver gives the guest the frame of n bytes that was read to the frame of lease, and the spill buffer behind.
func (p *Port) deliver(now int64, lease netbackend.Lease, n int) {
	var h vnet.Header
	h.Decode(p.came[:])
	if !h.AcceptedBy(p.features) {
		p.counters.NotAccepted++
		return
	}
	if p.features&vnet.FeatureGuestCSum == 0 {
		h.Flags = 0 // virtio 1.2 section 5.1.6.4.1
	}
	reserved := lease.Frame(0)
	spilled := n - length(reserved)
	if spilled <= 0 {
		p.commit(lease, &h, n)
		return
	}
	p.held = held{length: n, spilled: spilled, at: reserved[0].Base, header: h, until: now + holdPatience}
}

// commit makes a frame of n bytes the guest's.
func (p *Port) commit(lease netbackend.Lease, h *vnet.Header, n int) {
	lease.Commit(h, n)
	p.counters.Received++
	p.counters.ReceivedBytes += uint64(n)
}

// release puts the frame that is held together, if there is one. It returns false if the frame must wait for more
// buffers; one that no ring of this size can hold does not.
func (p *Port) release(now int64, rx *netbackend.RXWriter) bool {
	f := &p.held
	if f.length == 0 {
		return true
	}
	if f.length > maxFrame || now >= f.until || f.length > leastBuffer && hasNoRoom(rx, f.length) {
		p.drop()
		return true
	}
	lease := rx.Reserve(netbackend.Request{Min: f.length, Max: f.length}) // gives useless buffers back
	if lease.Len() == 0 {
		if hasNoRoom(rx, f.length) {
			p.drop()
			return true
		}
		return false
	}
	whole := lease.Frame(0)
	if whole[0].Base != f.at { // the driver has spoiled a buffer between, and those before went with it
		p.drop()
		return true
	}
	guestmem.CopyTo(whole, f.length-f.spilled, p.spill[:f.spilled])
	p.counters.Respilled++
	p.commit(lease, &f.header, f.length)
	f.length = 0
	return true
}

// hasNoRoom reports whether no ring of rx's size can hold a frame of so many bytes, going by the oldest of its buffers.
func hasNoRoom(rx *netbackend.RXWriter, length int) bool {
	holds := rx.Capacity()
	return holds != 0 && holds < length
}

// onlySpill is where frames are read to that nobody wants.
func (p *Port) onlySpill() []guestmem.Iovec {
	return append(p.iov[:0], guestmem.PieceOf(p.came[:]), guestmem.PieceOf(p.spill))
}

func length(iov []guestmem.Iovec) int {
	n := uint64(0)
	for _, v := range iov {
		n += v.Len
	}
	return int(n)
}
