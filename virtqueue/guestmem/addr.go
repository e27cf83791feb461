package guestmem

// GPA is a guest-physical address: what descriptors hold (virtio 1.2 section 2.7.5).
type GPA uint64

// UVA is an address in the front end's own virtual memory ("user address"): what VHOST_USER_SET_VRING_ADDR holds.
type UVA uint64

// span is a run of guest addresses, GPA or UVA, that lies in one run of host memory. Its end is at most 2^64-1.
type span struct {
	start uint64  // first guest address
	size  uint64  // bytes, not 0
	host  uintptr // host address of start
}

// hit returns the host address of [addr, addr+n) if all of it is in s.
func (s *span) hit(addr GPA, n uint64) (host uintptr, ok bool) {
	off := uint64(addr) - s.start
	return s.host + uintptr(off), off < s.size && n <= s.size-off
}

// find returns the span that holds addr, or nil. The spans are sorted and do not overlap.
func find(spans []span, addr uint64) *span {
	lo, hi := 0, len(spans)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		switch s := &spans[mid]; {
		case addr < s.start:
			hi = mid
		case addr-s.start >= s.size:
			lo = mid + 1
		default:
			return s
		}
	}
	return nil
}

// contiguous returns the host address of the area [addr, addr+n), if all of it is mapped and in one run.
func contiguous(spans []span, addr, n uint64) (host uintptr, ok bool) {
	s := find(spans, addr)
	if s == nil {
		return 0, false
	}
	off := addr - s.start
	if n > s.size-off {
		return 0, false
	}
	return s.host + uintptr(off), true
}
