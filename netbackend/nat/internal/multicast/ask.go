package multicast

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

const (
	// maxAsks is how many ports of a guest may wait for answers by unicast at once. A browser of services needs one or two.
	maxAsks = 16
	// askPatience is how long a port is waited for answers after it has asked last, in nanoseconds. SSDP's answers come within 5 s
	// (UPnP Device Architecture 2.0 section 1.3.2), those of mDNS at once; older devices take longer.
	askPatience = int64(30e9)
)

// ask is a port of the guest that waits for answers by unicast, and its socket.
type ask struct {
	guest   netip.AddrPort
	group   Group
	version int
	fd      int
	until   int64
}

// asks are in the order of their ends.
type asks struct {
	n   int
	all [maxAsks]ask
}

// renew returns the ask of a port of the guest, which waits until then; nil if there is none.
func (s *asks) renew(g Group, guest netip.AddrPort, until int64) *ask {
	for i := range s.all[:s.n] {
		if s.all[i].guest == guest && s.all[i].group == g {
			a := s.all[i]
			copy(s.all[i:], s.all[i+1:s.n])
			a.until = until
			s.all[s.n-1] = a
			return &s.all[s.n-1]
		}
	}
	return nil
}

// add adds an ask; there is room.
func (s *asks) add(a ask) *ask {
	s.all[s.n] = a
	s.n++
	return &s.all[s.n-1]
}

// full reports whether there is no room.
func (s *asks) full() bool { return s.n == maxAsks }

// dropFirst ends the ask that ends first.
func (s *asks) dropFirst() {
	_ = unix.Close(s.all[0].fd)
	copy(s.all[:], s.all[1:s.n])
	s.n--
	s.all[s.n] = ask{}
}

// expire ends those whose time is over, and reports whether there were any.
func (s *asks) expire(now int64) (some bool) {
	for s.n > 0 && s.all[0].until <= now {
		s.dropFirst()
		some = true
	}
	return some
}

// close ends all.
func (s *asks) close() {
	for s.n > 0 {
		s.dropFirst()
	}
}
