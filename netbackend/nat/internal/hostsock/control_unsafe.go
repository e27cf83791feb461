package hostsock

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// controlBuffer takes the control messages of a datagram: the length of its segments (UDP_SEGMENT with 16 bits on its way out,
// UDP_GRO with 32 bits on its way in, udp(7)), and the address and interface of the host (IP_PKTINFO of ip(7), IPV6_PKTINFO of
// ipv6(7)).
type controlBuffer [8]uint64

const (
	segmentSize = 2
	groSize     = 4
	infoSize    = 12 // struct in_pktinfo
	info6Size   = 20 // struct in6_pktinfo
)

// put appends a control message with n bytes of data to what message i has, and returns where they go.
func (b *Batch) put(i int, name option, n int) unsafe.Pointer {
	h, c := &b.hdrs[i].hdr, &b.control[i]
	start := unsafe.Pointer(c)
	at := unsafe.Add(start, h.Controllen)
	*(*unix.Cmsghdr)(at) = unix.Cmsghdr{Len: uint64(unix.SizeofCmsghdr + n), Level: name.level, Type: name.kind}
	h.Control = (*byte)(start)
	h.Controllen += uint64(unix.SizeofCmsghdr+n+7) &^ 7
	return unsafe.Add(at, unix.SizeofCmsghdr)
}

// WantControl asks for all control messages of message i.
func (b *Batch) WantControl(i int) {
	h := &b.hdrs[i].hdr
	h.Control = (*byte)(unsafe.Pointer(&b.control[i]))
	h.Controllen = uint64(unsafe.Sizeof(b.control[i]))
}

// findControl returns the n bytes of data of a control message that the kernel has written, nil if it has not.
func findControl(control unsafe.Pointer, length int, name option, n int) unsafe.Pointer {
	for at := 0; at+unix.SizeofCmsghdr <= length; {
		c := (*unix.Cmsghdr)(unsafe.Add(control, at))
		if c.Len < unix.SizeofCmsghdr || int(c.Len) > length-at {
			return nil
		}
		if c.Level == name.level && c.Type == name.kind && int(c.Len) >= unix.SizeofCmsghdr+n {
			return unsafe.Add(control, at+unix.SizeofCmsghdr)
		}
		at += (int(c.Len) + 7) &^ 7
	}
	return nil
}

// found returns the data of a control message of message i, as findControl does.
func (b *Batch) found(i int, name option, n int) unsafe.Pointer {
	return findControl(unsafe.Pointer(&b.control[i]), int(b.hdrs[i].hdr.Controllen), name, n)
}

// pktInfo4 and pktInfo6 are the kernel's struct in_pktinfo and in6_pktinfo.
type pktInfo4 struct {
	link  uint32
	local [4]byte // that answers should have: for a datagram to many it is the host's own; with errors it is zero
	to    [4]byte // where the datagram went
}

type pktInfo6 struct {
	local [16]byte
	link  [4]byte // not aligned to 8 bytes, as the message is
}

var (
	pktInfoName  = option{unix.IPPROTO_IP, unix.IP_PKTINFO}
	pktInfo6Name = option{unix.IPPROTO_IPV6, unix.IPV6_PKTINFO}
)

// loopbackLink is the index of the interface lo.
const loopbackLink = 1

// Asked returns which address of the host message i was sent to, and the index of the interface that it came by, 0 for lo.
func (b *Batch) Asked(i int) (local ipaddr.Addr, link uint32) {
	return askedIn(unsafe.Pointer(&b.control[i]), int(b.hdrs[i].hdr.Controllen))
}

func askedIn(control unsafe.Pointer, length int) (local ipaddr.Addr, link uint32) {
	if info := (*pktInfo4)(findControl(control, length, pktInfoName, infoSize)); info != nil {
		local, link = ipaddr.From4(info.local[:]), info.link
		if info.local == [4]byte{} {
			local = ipaddr.From4(info.to[:])
		}
	} else if info := (*pktInfo6)(findControl(control, length, pktInfo6Name, info6Size)); info != nil {
		local, link = info.local, *(*uint32)(unsafe.Pointer(&info.link))
	}
	if !local.IsUnicast() {
		local = ipaddr.Addr{}
	}
	if link == loopbackLink {
		link = 0
	}
	return local, link
}

// Scope returns the index of the interface on which the sender of message i has its link-local address.
func (b *Batch) Scope(i int) uint32 { return b.names[i].Scope_id }

// By lets message i leave by a way. v6 tells the socket's version of IP.
func (b *Batch) By(i int, w *Way, v6 bool) {
	b.names[i].Scope_id = w.Scope
	if w.Local == (ipaddr.Addr{}) && w.Link == 0 {
		return
	}
	if v6 {
		info := (*pktInfo6)(b.put(i, pktInfo6Name, info6Size))
		info.local = w.Local
		*(*uint32)(unsafe.Pointer(&info.link)) = max(w.Link, w.Scope)
		return
	}
	info := (*pktInfo4)(b.put(i, pktInfoName, infoSize))
	*info = pktInfo4{link: w.Link}
	copy(info.local[:], w.Local[12:])
}
