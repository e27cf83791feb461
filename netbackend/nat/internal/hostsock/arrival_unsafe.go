package hostsock

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/virtqueue/guestmem"
)

// Arrival is how a packet came in at the host, and goes on to the guest: its time to live, less one for the engine, and its traffic
// class. The zero value is that of a packet of the engine's own.
type Arrival struct{ HopLimit, TrafficClass uint8 }

// arrivalControl takes the two control messages that tell it (IP_RECVTTL and IP_RECVTOS of ip(7), IPV6_RECVHOPLIMIT and
// IPV6_RECVTCLASS of ipv6(7)). Each has room for an int; that of IP_TOS is one byte.
type arrivalControl [2]struct {
	hdr   unix.Cmsghdr
	value int32
	_     uint32
}

// ReceiveArrival is Receive with the sender's name, and with how the packet came in, which is in m.Arrived afterwards.
func (m *Message) ReceiveArrival(fd int32, iov []guestmem.Iovec) (n int, truncated bool, errno unix.Errno) {
	m.set(iov, uint32(unsafe.Sizeof(m.name)))
	m.arrivals, m.Arrived = arrivalControl{}, Arrival{}
	m.hdr.Control = (*byte)(unsafe.Pointer(&m.arrivals))
	m.hdr.Controllen = uint64(unsafe.Sizeof(m.arrivals))
	r, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.hdr)), unix.MSG_DONTWAIT)
	for i := range m.arrivals {
		c := &m.arrivals[i]
		first := *(*uint8)(unsafe.Pointer(&c.value))
		switch (option{c.hdr.Level, c.hdr.Type}) {
		case option{unix.IPPROTO_IP, unix.IP_TTL}, option{unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT}:
			m.Arrived.HopLimit = uint8(min(max(c.value-1, 1), 255))
		case option{unix.IPPROTO_IP, unix.IP_TOS}:
			m.Arrived.TrafficClass = first
		case option{unix.IPPROTO_IPV6, unix.IPV6_TCLASS}:
			m.Arrived.TrafficClass = uint8(c.value)
		}
	}
	return int(r), m.hdr.Flags&unix.MSG_TRUNC != 0, errno
}
