package tap

import (
	"encoding/binary"
	"log/slog"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// transmit sends the guest's frames, and returns how many of them are done with. The rest stay in the ring until the
// kernel can take more.
func (p *Port) transmit(tx []virtqueue.Chain) (done int) {
	for i := range tx {
		if !p.attached {
			p.counters.Detached += uint64(len(tx) - i)
			return len(tx)
		}
		if p.full || !p.send(&tx[i]) {
			return i
		}
	}
	return len(tx)
}

// send sends one frame. It returns false if the frame must wait.
func (p *Port) send(c *virtqueue.Chain) bool {
	length, ok := p.header(c)
	if !ok {
		p.counters.BadHeaders++
		return true
	}
	iov, ok := p.pieces(c.Iov, length)
	if !ok {
		p.counters.BadHeaders++
		return true
	}
	if _, errno := guestmem.Writev(p.queue.fd, iov); errno != 0 {
		return p.unsent(errno)
	}
	p.counters.Sent++
	p.counters.SentBytes += uint64(length)
	if p.down {
		p.down = false
		p.raise(slog.LevelInfo, "the TAP device is up again", "tap", p.device.cfg.Name)
	}
	return true
}

// header checks a copy of the virtio-net header of a frame and puts what the kernel is to see of it into p.sent. It
// returns the length of the frame.
func (p *Port) header(c *virtqueue.Chain) (length int, ok bool) {
	length = int(c.Len) - p.headerLen
	if length < vnet.EthernetHeaderLen || length > maxFrame {
		return 0, false
	}
	guestmem.CopyFrom(p.heads[:p.headerLen], c.Iov, 0)
	var h vnet.Header
	h.Decode(p.heads[:p.headerLen])
	if h.Check(length, p.features) != nil {
		return 0, false
	}
	if h.GSOType != vnet.GSONone && !p.checkEtherType(&h, c.Iov) {
		return 0, false
	}
	h.Clean(length)
	h.Encode(p.sent[:vnet.HeaderLen])
	return length, true
}

// checkEtherType checks on a copy that the frame is what its header says is to be cut up.
func (p *Port) checkEtherType(h *vnet.Header, iov []guestmem.Iovec) bool {
	n := guestmem.CopyFrom(p.heads[:], iov, 0)
	return h.CheckEtherType(etherType(p.heads[p.headerLen:n])) == nil
}

// etherType returns the type of a frame behind up to two VLAN tags, 0 if it ends before. The frame has an Ethernet
// header.
func etherType(frame []byte) uint16 {
	const at = vnet.EthernetHeaderLen - 2
	t := binary.BigEndian.Uint16(frame[at:])
	for tag := at + vlanTagLen; isVLAN(t); tag += vlanTagLen {
		if len(frame) < tag+2 {
			return 0
		}
		t = binary.BigEndian.Uint16(frame[tag:])
	}
	return t
}

// isVLAN tells whether a VLAN tag follows (IEEE 802.1Q and 802.1ad).
func isVLAN(etherType uint16) bool {
	return etherType == unix.ETH_P_8021Q || etherType == unix.ETH_P_8021AD
}

// pieces returns the iovecs of a frame of length bytes: our header, and the frame behind it. A short frame is copied: to
// take two pieces costs the kernel more.
func (p *Port) pieces(frame []guestmem.Iovec, length int) (_ []guestmem.Iovec, ok bool) {
	if length > shortFrame {
		return p.behindHeader(frame)
	}
	whole := p.sent[:vnet.HeaderLen+length]
	guestmem.CopyFrom(whole[vnet.HeaderLen:], frame, p.headerLen)
	return append(p.iov[:0], guestmem.PieceOf(whole)), true
}

// behindHeader returns the iovecs of a frame: our header, and the guest's buffers without theirs. It is not ok with
// more pieces than one call takes: nobody cuts 64 KiB into a thousand.
func (p *Port) behindHeader(frame []guestmem.Iovec) (_ []guestmem.Iovec, ok bool) {
	iov := append(p.iov[:0], guestmem.PieceOf(p.sent[:vnet.HeaderLen]))
	skip := uint64(p.headerLen)
	for _, v := range frame {
		if skip >= v.Len {
			skip -= v.Len
			continue
		}
		if len(iov) == cap(iov) {
			return nil, false
		}
		iov = append(iov, guestmem.Iovec{Base: v.Base + uintptr(skip), Len: v.Len - skip})
		skip = 0
	}
	return iov, true
}

// unsent deals with a frame that the kernel did not take. It returns false if the frame must wait.
func (p *Port) unsent(errno unix.Errno) bool {
	switch errno {
	case unix.EAGAIN:
		p.wait()
		return false
	case unix.EIO:
		p.counters.Down++
		if !p.down {
			p.down = true
			p.raise(slog.LevelWarn, "the TAP device is down: frames of the guest are dropped until it is set up",
				"command", "ip link set "+p.device.cfg.Name+" up")
		}
	case unix.ENOBUFS, unix.ENOMEM:
		p.counters.NoMemory++
	default:
		if p.failed(errno) {
			p.counters.Detached++
		} else {
			p.counters.Refused++
		}
	}
	return true
}

// wait waits for the kernel to take more. A TAP device tells of room only those who asked for it after there was none:
// hence the fresh question.
func (p *Port) wait() {
	p.counters.Full++
	if err := p.worker.Rearm(p.queue.fd, 0); err != nil {
		p.lose(err)
		return
	}
	p.full = true
}
