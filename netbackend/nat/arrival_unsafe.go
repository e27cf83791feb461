package nat

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// arrival is how a packet came in at the host, and goes on to the guest: its time to live, less one for the engine, and its traffic
// class. The zero value is that of a packet of the engine's own.
type arrival struct{ hops, tos uint8 }

// arrivalControl takes the two control messages that tell it (IP_RECVTTL and IP_RECVTOS of ip(7), IPV6_RECVHOPLIMIT and
// IPV6_RECVTCLASS of ipv6(7)). Each has room for an int; that of IP_TOS is one byte.
type arrivalControl [2]struct {
	hdr   unix.Cmsghdr
	value int32
	_     uint32
}

// wantArrivals lets the kernel tell how each packet came in that the socket fd receives, which is one for a.
func wantArrivals(a *ipaddr.Addr, fd int) {
	if a.Is4() {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTTL, 1)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTOS, 1)
		return
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1)
}

// receiveArrival is receive with the sender's name, and with how the packet came in, which is in m.arrived afterwards.
func (m *message) receiveArrival(fd int32, iov []guestmem.Iovec) (n int, truncated bool, errno unix.Errno) {
	m.set(iov, uint32(unsafe.Sizeof(m.name)))
	m.arrivals, m.arrived = arrivalControl{}, arrival{}
	m.hdr.Control = (*byte)(unsafe.Pointer(&m.arrivals))
	m.hdr.Controllen = uint64(unsafe.Sizeof(m.arrivals))
	r, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.hdr)), unix.MSG_DONTWAIT)
	for i := range m.arrivals {
		c := &m.arrivals[i]
		first := *(*uint8)(unsafe.Pointer(&c.value))
		switch (option{c.hdr.Level, c.hdr.Type}) {
		case option{unix.IPPROTO_IP, unix.IP_TTL}, option{unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT}:
			m.arrived.hops = uint8(min(max(c.value-1, 1), 255))
		case option{unix.IPPROTO_IP, unix.IP_TOS}:
			m.arrived.tos = first
		case option{unix.IPPROTO_IPV6, unix.IPV6_TCLASS}:
			m.arrived.tos = uint8(c.value)
		}
	}
	return int(r), m.hdr.Flags&unix.MSG_TRUNC != 0, errno
}

// put writes a into the IP header ip, whose other fields are there.
func (a arrival) put(ip []byte) {
	if a == (arrival{}) {
		return
	}
	if ip[0]>>4 == 4 {
		ip[1], ip[8] = a.tos, a.hops
		sumIPv4(ip)
		return
	}
	binary.BigEndian.PutUint16(ip, 6<<12|uint16(a.tos)<<4)
	ip[7] = a.hops
}
