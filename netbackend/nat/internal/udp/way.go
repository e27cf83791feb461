package udp

import (
	"sync"
	"sync/atomic"

	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
)

// A socket of a UDP forward that is bound to all addresses does not say by itself which of them a peer has asked. The kernel
// tells it with each datagram (IP_PKTINFO of ip(7), IPV6_PKTINFO of ipv6(7)), and the answer leaves from that address, by the
// interface that the question came by if a route leads to the peer there. One peer may ask several addresses of the host from
// one port: these are flows of their own, and the guest sees further ones at other ports.

// ways are those of a guest's flows, which hold their numbers; there are far fewer than flows. A way stays at its number as
// long as a record has it, and while any queue pair may look at that record: so it is read without a lock.
type ways struct {
	entries atomic.Pointer[[]hostsock.Way] // by number; 0 is the zero way. It is replaced by a longer one, with the same beginning

	mu     sync.Mutex // guards what follows, and changes
	number map[hostsock.Way]uint16
	users  []uint32 // records that have it
	free   []uint16
}

// maxWays is how many ways can have a number.
const maxWays = 1 << 16

// at returns the way of a number that a record has.
func (s *ways) at(n uint16) hostsock.Way {
	if n == 0 {
		return hostsock.Way{}
	}
	return (*s.entries.Load())[n]
}

// take returns the number of a way for one more record; !ok if there is none left.
func (s *ways) take(w hostsock.Way) (n uint16, ok bool) {
	if w == (hostsock.Way{}) {
		return 0, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n, known := s.number[w]
	if !known {
		if n, ok = s.add(w); !ok {
			return 0, false
		}
	}
	s.users[n]++
	return n, true
}

// add gives a way a number.
func (s *ways) add(w hostsock.Way) (n uint16, ok bool) {
	if s.number == nil {
		s.number, s.users = map[hostsock.Way]uint16{}, make([]uint32, 1)
		s.entries.Store(&[]hostsock.Way{{}})
	}
	if last := len(s.free); last > 0 {
		n, s.free = s.free[last-1], s.free[:last-1]
		(*s.entries.Load())[n] = w // nobody looks at it
		s.number[w] = n
		return n, true
	}
	before := *s.entries.Load()
	if len(before) == maxWays {
		return 0, false
	}
	// Others may be reading: the old entries stay where they are, or are copied.
	entries := append(before, w)
	s.entries.Store(&entries)
	s.users = append(s.users, 0)
	n = uint16(len(before))
	s.number[w] = n
	return n, true
}

// give takes back the number that take has returned.
func (s *ways) give(n uint16) {
	if n == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users[n]--; s.users[n] == 0 {
		delete(s.number, (*s.entries.Load())[n])
		s.free = append(s.free, n)
	}
}
