package guestmem

// CopyFrom copies from guest memory, beginning off bytes into iov, to dst. It returns the number of bytes copied, which
// is less than len(dst) when iov ends. Call it inside [Guard].
func CopyFrom(dst []byte, iov []Iovec, off int) int {
	n := 0
	skip := uint64(off)
	for i := range iov {
		if n == len(dst) {
			break
		}
		v := &iov[i]
		if skip >= v.Len {
			skip -= v.Len
			continue
		}
		n += copy(dst[n:], v.bytes()[skip:])
		skip = 0
	}
	return n
}

// CopyTo copies src to guest memory, beginning off bytes into iov. It returns the number of bytes copied, which is less
// than len(src) when iov ends. Call it inside [Guard].
func CopyTo(iov []Iovec, off int, src []byte) int {
	n := 0
	skip := uint64(off)
	for i := range iov {
		if n == len(src) {
			break
		}
		v := &iov[i]
		if skip >= v.Len {
			skip -= v.Len
			continue
		}
		n += copy(v.bytes()[skip:], src[n:])
		skip = 0
	}
	return n
}

// Put copies b to the beginning of v, as far as there is room.
func Put(v *Iovec, b []byte) int { return copy(v.bytes(), b) }

// Move copies n bytes from guest memory, off bytes into from, to the beginning of to. Both have them. If they overlap, the
// guest gets what was there before.
func Move(to, from *Iovec, off, n int) {
	copy(to.bytes()[:n], from.bytes()[off:off+n])
}
