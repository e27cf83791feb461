package route

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// query is a question to the routing table with more than a destination.
type query struct {
	to    *ipaddr.Addr
	from  *ipaddr.Addr // the source address; nil for none
	by    uint32       // index of the interface; 0 for any
	exact bool         // the table's entry is wanted, not what the kernel makes of it (RTM_F_FIB_MATCH)
}

// answer is what the table says. kind is one of unix.RTN_UNICAST and so on, 0 if there is no route.
type answer struct {
	kind uint8
	by   uint32 // index of the interface
}

// LeavesBy reports whether datagrams to peer that have the source address from leave by an interface that has this address.
func (r *Table) LeavesBy(from, peer *ipaddr.Addr) bool {
	way := r.ask(query{to: peer, from: from})
	owner := r.ask(query{to: from, exact: true})
	return way.kind == unix.RTN_UNICAST && owner.kind == unix.RTN_LOCAL && way.by == owner.by
}

// Reaches reports whether there is a route to peer by an interface.
func (r *Table) Reaches(peer *ipaddr.Addr, by uint32) bool {
	return r.ask(query{to: peer, by: by, exact: true}).kind == unix.RTN_UNICAST
}

// ask asks the routing table.
func (r *Table) ask(q query) (a answer) {
	var scratch [unix.SizeofNlMsghdr + unix.SizeofRtMsg + 3*unix.SizeofRtAttr + 2*16 + 4]byte
	if _, err := unix.Write(r.fd, r.compose(scratch[:0], &q)); err != nil {
		return a
	}
	for {
		n, err := unix.Read(r.fd, r.answer[:])
		if err != nil || n < unix.SizeofNlMsghdr {
			return a
		}
		if binary.NativeEndian.Uint32(r.answer[nlSequence:]) == r.seq {
			return readRoute(r.answer[:n])
		}
	}
}

// compose appends the question to b.
func (r *Table) compose(b []byte, q *query) []byte {
	r.seq++
	const fixed = unix.SizeofNlMsghdr + unix.SizeofRtMsg
	b = append(b, make([]byte, fixed)...)
	binary.NativeEndian.PutUint16(b[nlType:], unix.RTM_GETROUTE)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST)
	binary.NativeEndian.PutUint32(b[nlSequence:], r.seq)
	route := b[unix.SizeofNlMsghdr:]
	route[0] = uint8(q.to.Domain())
	route[1] = uint8(8 * len(q.to.Bytes()))
	if q.exact {
		binary.NativeEndian.PutUint32(route[8:], unix.RTM_F_FIB_MATCH)
	}
	b = appendAttribute(b, unix.RTA_DST, q.to.Bytes())
	if q.from != nil {
		b[unix.SizeofNlMsghdr+2] = uint8(8 * len(q.from.Bytes()))
		b = appendAttribute(b, unix.RTA_SRC, q.from.Bytes())
	}
	if q.by != 0 {
		b = appendAttribute(b, unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, q.by))
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	return b
}

// appendAttribute appends an attribute, whose value's length is a multiple of 4.
func appendAttribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	return append(b, value...)
}

// readRoute reads an answer.
func readRoute(b []byte) (a answer) {
	const fixed = unix.SizeofNlMsghdr + unix.SizeofRtMsg
	if len(b) < fixed || binary.NativeEndian.Uint16(b[nlType:]) != unix.RTM_NEWROUTE {
		return a
	}
	a.kind = b[routeType]
	if value, _ := findAttribute(b[fixed:], unix.RTA_OIF, 4); value != nil {
		a.by = binary.NativeEndian.Uint32(value)
	}
	return a
}

// findAttribute returns the n bytes of the value of an attribute, nil if b has none of that kind and length. !whole means that b was
// not understood to its end.
func findAttribute(b []byte, kind uint16, n int) (value []byte, whole bool) {
	for len(b) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			return nil, false
		}
		if binary.NativeEndian.Uint16(b[2:]) == kind && size == unix.SizeofRtAttr+n {
			return b[unix.SizeofRtAttr:size], true
		}
		b = b[min(nlAlign(size), len(b)):]
	}
	return nil, true
}
