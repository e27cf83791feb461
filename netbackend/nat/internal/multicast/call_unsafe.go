package multicast

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// incoming is the scratch of recvmsg(2), and what it tells of a datagram. It lives in the Reflector, so that a call allocates
// nothing.
type incoming struct {
	header  unix.Msghdr
	iov     unix.Iovec
	name    unix.RawSockaddrInet6 // large enough for IPv4 too
	control [16]uint64
	payload [MaxPayload]byte

	from netip.AddrPort // without a zone
	link uint32         // index of the interface that it came by
	hops int
	long bool // it was longer than payload
}

// receive reads a datagram from fd. The call uses the raw form: the sockets do not block.
func (in *incoming) receive(fd int) (n int, errno unix.Errno) {
	in.name = unix.RawSockaddrInet6{}
	in.iov = unix.Iovec{Base: &in.payload[0], Len: uint64(len(in.payload))}
	in.header = unix.Msghdr{
		Name: (*byte)(unsafe.Pointer(&in.name)), Namelen: uint32(unsafe.Sizeof(in.name)), Iov: &in.iov, Iovlen: 1,
		Control: (*byte)(unsafe.Pointer(&in.control)), Controllen: uint64(unsafe.Sizeof(in.control)),
	}
	r, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&in.header)), unix.MSG_DONTWAIT)
	if errno != 0 {
		return 0, errno
	}
	in.long = in.header.Flags&unix.MSG_TRUNC != 0
	in.from = in.sender()
	in.readControl()
	return int(r), 0
}

func (in *incoming) sender() netip.AddrPort {
	port := (*[2]byte)(unsafe.Pointer(&in.name.Port)) // in network byte order
	number := uint16(port[0])<<8 | uint16(port[1])
	switch in.name.Family {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(&in.name)).Addr), number)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(in.name.Addr), number)
	}
	return netip.AddrPort{}
}

// readControl reads by which interface a datagram came and its time to live (IP_PKTINFO and IP_RECVTTL of ip(7), IPV6_PKTINFO and
// IPV6_RECVHOPLIMIT of ipv6(7)).
func (in *incoming) readControl() {
	in.link, in.hops = 0, 0
	b := unsafe.Slice((*byte)(unsafe.Pointer(&in.control)), int(in.header.Controllen))
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		if h.Len < unix.SizeofCmsghdr || h.Len > uint64(len(b)) {
			return
		}
		data := b[unix.SizeofCmsghdr:h.Len]
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			in.link = *(*uint32)(unsafe.Pointer(&data[0]))
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			in.link = *(*uint32)(unsafe.Pointer(&data[16]))
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TTL && len(data) >= 4,
			h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_HOPLIMIT && len(data) >= 4:
			in.hops = int(*(*int32)(unsafe.Pointer(&data[0])))
		}
		b = b[min((int(h.Len)+7)&^7, len(b)):]
	}
}

// outgoing is the scratch of sendmsg(2), like incoming.
type outgoing struct {
	header  unix.Msghdr
	iov     unix.Iovec
	name    unix.RawSockaddrInet6
	control struct {
		unix.Cmsghdr
		unix.Inet4Pktinfo
		_ uint32
	}
}

// send sends a datagram to a group by fd, over the interface with an index.
func (out *outgoing) send(fd int, g Group, version int, index uint32, payload []byte) unix.Errno {
	a, port := g.Address(version == v6), g.Port()
	out.name = unix.RawSockaddrInet6{}
	*(*[2]byte)(unsafe.Pointer(&out.name.Port)) = [2]byte{byte(port >> 8), byte(port)}
	out.iov = unix.Iovec{Base: unsafe.SliceData(payload), Len: uint64(len(payload))}
	out.header = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&out.name)), Iov: &out.iov, Iovlen: 1}
	if version == v6 {
		out.name.Family, out.name.Addr, out.name.Scope_id = unix.AF_INET6, a.As16(), index
		out.header.Namelen = unix.SizeofSockaddrInet6
	} else {
		out.name.Family = unix.AF_INET
		(*unix.RawSockaddrInet4)(unsafe.Pointer(&out.name)).Addr = a.As4()
		out.header.Namelen = unix.SizeofSockaddrInet4
		out.control.Cmsghdr = unix.Cmsghdr{
			Len: unix.SizeofCmsghdr + unix.SizeofInet4Pktinfo, Level: unix.IPPROTO_IP, Type: unix.IP_PKTINFO,
		}
		out.control.Ifindex = int32(index)
		out.header.Control = (*byte)(unsafe.Pointer(&out.control))
		out.header.Controllen = uint64(unsafe.Sizeof(out.control))
	}
	_, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&out.header)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	return errno
}
