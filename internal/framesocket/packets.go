package framesocket

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/mmsg"
	"github.com/vringnet/vring/internal/ownrings"
	"github.com/vringnet/vring/internal/vfkit"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// packets is the framing of sockets that keep packets apart. A packet that is received has a slot of the input for itself.
type packets struct {
	greeting bool // the first packet may be one, which is no frame
	first    bool // no packet has come yet
	endless  bool // an empty packet is one, and not the end of the connection
	slot     int  // in which the next packet goes
	batch    mmsg.Batch
	iov      [ownrings.RXBuffers]guestmem.Iovec
}

func newPackets(f Framing) *packets {
	return &packets{greeting: f == Datagrams, endless: f == Datagrams, first: true}
}

func (s *packets) restart(int) { s.first, s.slot = true, 0 }

// receive implements framing.
func (s *packets) receive(d *frames) (more bool, err error) {
	if !d.readable {
		return false, nil
	}
	if d.Outstanding() == 0 {
		s.slot = 0
	}
	n := min(d.Room(), slots-s.slot, mmsg.Size)
	if n == 0 {
		d.waits = s.slot == slots
		return true, nil
	}
	for i := range n {
		s.iov[i] = d.Iovec(d.Input+(s.slot+i)*slotSize, slotSize)
		s.batch.Set(i, s.iov[i:i+1])
	}
	got, errno := s.batch.Receive(d.fd, n)
	switch {
	case errno == unix.EAGAIN:
		d.readable = false
		return false, nil
	case errno == unix.EINTR:
		return true, nil
	case errno != 0:
		return false, errno
	}
	for i := range got {
		if err := s.take(d, i); err != nil {
			return false, err
		}
	}
	s.slot += got
	if got < n {
		d.cameShort()
	}
	return d.readable, nil
}

// take makes packet i of the batch available.
func (s *packets) take(d *frames, i int) error {
	n, cut := s.batch.Length(i)
	off := d.Input + (s.slot+i)*slotSize
	first := s.first
	s.first = false
	switch {
	case n == 0 && !s.endless:
		return unix.ECONNRESET
	case first && s.greeting && string(d.Memory[off:off+n]) == vfkit.Greeting:
	case cut || n > MaxFrame:
		d.counters.FrontEndLong++
	case n < minFrame:
		d.counters.FrontEndShort++
	default:
		d.Add(off, n)
	}
	return nil
}

// send implements framing.
func (s *packets) send(d *frames) error {
	for {
		n := s.gather(d)
		if n == 0 {
			return nil
		}
		sent, errno := s.batch.Send(d.fd, n)
		switch errno {
		case 0:
		case unix.EAGAIN, unix.ENOBUFS:
			d.writable = false
			return nil
		case unix.EINTR:
			continue
		case unix.EMSGSIZE:
			sent = 1
			d.counters.FrontEndRefused++
		default:
			return errno
		}
		used := 0
		for range sent {
			buffers, _ := d.Frame(used)
			used += buffers
		}
		d.Repost(used)
	}
}

// gather makes packets of the oldest used receive buffers, and returns how many.
func (s *packets) gather(d *frames) (n int) {
	for used, at := d.Used(), 0; at < used && n < mmsg.Size; n++ {
		buffers, _ := d.Frame(at)
		for k := range buffers {
			begin, written := d.Buffer(at + k)
			skip := 0
			if k == 0 {
				skip = vnet.HeaderLen
			}
			s.iov[at+k] = d.Iovec(begin+skip, written-skip)
		}
		s.batch.Set(n, s.iov[at:at+buffers])
		at += buffers
	}
	return n
}
