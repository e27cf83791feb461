package framesocket

import (
	"encoding/binary"
	"io"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/ownrings"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// stream is the framing of a stream.
type stream struct {
	// Input lies in input[:end]. What was made available is before begin, and the frame that comes next begins there.
	begin, end int

	// Output is iov[first:last], one for each of the oldest used receive buffers. The first may have been sent in part.
	iov         [ownrings.RXBuffers]guestmem.Iovec
	first, last int
}

func newStream() *stream { return &stream{} }

// restart implements framing. A socket that cannot be made larger serves as it is.
func (s *stream) restart(fd int) {
	s.begin, s.end, s.first, s.last = 0, 0, 0, 0
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, outboxSize)
}

// receive implements framing. It reads once: more waits for the next turn.
func (s *stream) receive(d *frames) (more bool, err error) {
	full, err := s.cut(d)
	if err != nil || full || !d.readable {
		return full, err
	}
	if !s.makeRoom(d) {
		d.waits = true
		return true, nil
	}
	room := inboxSize - s.end
	n, errno := recv(d.fd, d.Iovec(d.Input+s.end, room))
	switch {
	case errno == unix.EAGAIN:
		d.readable = false
		return false, nil
	case errno == unix.EINTR:
		return true, nil
	case errno != 0:
		return false, errno
	case n == 0:
		return false, io.EOF
	}
	s.end += n
	if n < room {
		d.cameShort()
	}
	full, err = s.cut(d)
	return full || d.readable, err
}

// cut makes whole frames of the input available. It reports whether the transmit ring was full before the input was looked through.
func (s *stream) cut(d *frames) (full bool, err error) {
	input := d.Memory[d.Input : d.Input+s.end]
	for room := d.Room(); ; {
		if s.end-s.begin < lengthLen {
			return false, nil
		}
		n := binary.BigEndian.Uint32(input[s.begin:])
		if n > MaxFrame {
			return false, errFrame(n)
		}
		next := s.begin + lengthLen + int(n)
		if next > s.end {
			return false, nil
		}
		if n < minFrame {
			d.counters.FrontEndShort++
			s.begin = next
			continue
		}
		if room == 0 {
			return true, nil
		}
		room--
		d.Add(d.Input+s.begin+lengthLen, int(n))
		s.begin = next
	}
}

// makeRoom makes room for more input, and reports whether there is any. What is there of a frame moves to the front if the rest of it might
// not find a place behind it; that must wait until the device has used all frames before it.
func (s *stream) makeRoom(d *frames) bool {
	const ample = inboxSize / 4 // of which less is left a few times only, until the next move
	if d.Outstanding() == 0 {
		if s.begin == s.end {
			s.begin, s.end = 0, 0
		} else if s.begin > 0 && inboxSize-s.end < ample {
			s.end = copy(d.Memory[d.Input:], d.Memory[d.Input+s.begin:d.Input+s.end])
			s.begin = 0
		}
	}
	return s.end < inboxSize
}

// send implements framing.
func (s *stream) send(d *frames) error {
	for {
		s.gather(d)
		if s.first == s.last {
			return nil
		}
		n, errno := sendAll(d.fd, s.iov[s.first:s.last])
		switch errno {
		case 0:
		case unix.EAGAIN:
			d.writable = false
			return nil
		case unix.EINTR:
			continue
		default:
			return errno
		}
		s.sent(d, n)
	}
}

// gather adds the frames that are used to what is to be sent, with the length of each before it.
func (s *stream) gather(d *frames) {
	if s.first == s.last {
		s.first, s.last = 0, 0
	}
	for used := d.Used(); s.last-s.first < used; {
		i := s.last - s.first
		buffers, length := d.Frame(i)
		if s.last+buffers > len(s.iov) {
			return
		}
		at, written := d.Buffer(i)
		at += vnet.HeaderLen - lengthLen
		binary.BigEndian.PutUint32(d.Memory[at:], uint32(length))
		s.iov[s.last] = d.Iovec(at, written-vnet.HeaderLen+lengthLen)
		s.last++
		for k := 1; k < buffers; k++ {
			s.iov[s.last] = d.Iovec(d.Buffer(i + k))
			s.last++
		}
	}
}

// sent takes n bytes off what is to be sent, and posts their buffers again.
func (s *stream) sent(d *frames, n int) {
	whole := 0
	for left := uint64(n); left > 0; {
		v := &s.iov[s.first]
		if v.Len > left {
			v.Base, v.Len = v.Base+uintptr(left), v.Len-left
			break
		}
		left -= v.Len
		s.first++
		whole++
	}
	d.Repost(whole)
}
