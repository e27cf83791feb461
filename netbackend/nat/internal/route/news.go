package route

import (
	"encoding/binary"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// News reports that links, addresses, routes or routing rules of the host have changed (rtnetlink(7)), by a socket of package routesocket
// that is told of news.
//
// It belongs to one thread, which learns of a change as soon as it is awake. The kernel has put the news there before the
// program that made the change can go on.
type News struct {
	fd      int
	due     bool       // there may be something to read
	raiseAt int64      // when the number of changes is to be raised, 0 for never
	changes Changes    // since they were forgotten last
	message [1024]byte // what a longer message has behind it is of no interest
}

// newsBurst is how many messages are read in one turn.
const newsBurst = 256

// Open must come first. It has the socket, which is n's from then on.
func (n *News) Open(socket int) { n.fd = socket }

// FD returns the descriptor to watch: it is readable when there is news. See Wake.
func (n *News) FD() int { return n.fd }

// Wake notes that the descriptor is readable.
func (n *News) Wake() { n.due = true }

// Pending reports whether there is something to do at now: news to read, or changes that were not forgotten yet. It is asked in
// each turn.
func (n *News) Pending(now int64) bool { return n.Due(now) || n.changes.Any() }

// Due reports whether Read has something to do at now.
func (n *News) Due(now int64) bool { return n.due || n.raiseAt != 0 && now >= n.raiseAt }

// Next returns when Read has something to do though nothing is readable, in nanoseconds of the clock of now; 0 for never.
func (n *News) Next() int64 { return n.raiseAt }

// Changes returns what has changed since it was forgotten last. It is n's own.
func (n *News) Changes() *Changes { return &n.changes }

// Read takes news, and counts the changes. It reports whether there is more than it has taken.
func (n *News) Read(now int64, count *ChangeCount) (more bool) {
	if n.due && n.take() || n.raiseAt != 0 && now >= n.raiseAt {
		n.raiseAt = count.raise(now)
	}
	return n.due
}

// Close closes the socket.
func (n *News) Close() { _ = unix.Close(n.fd) }

// take reads messages, newsBurst at most, and reports whether there were any.
func (n *News) take() (some bool) {
	for range newsBurst {
		size, err := unix.Read(n.fd, n.message[:])
		switch {
		case err == unix.EAGAIN:
			n.due = false
			return some
		case err != nil: // messages were lost (ENOBUFS)
			n.changes.all = true
		default:
			n.changes.note(n.message[:size])
		}
		some = true
	}
	return some
}

// ChangeCount counts the changes of the host's links, addresses and routes that any News which shares it has read. Whoever keeps
// something that followed from routes compares the number, and looks again when it differs. Safe for concurrent use.
type ChangeCount struct {
	n    atomic.Uint32
	next atomic.Int64 // it is not raised before
}

// countInterval is how often the count is raised at most, in nanoseconds, so that a host whose routes change all the time
// (BGP) costs no more than that.
const countInterval = int64(200e6)

// Number returns the number of changes so far, modulo 65536.
func (c *ChangeCount) Number() uint16 { return uint16(c.n.Load()) }

// raise counts a change. If one was counted a moment ago, it returns when this one is to be counted, and else 0.
func (c *ChangeCount) raise(now int64) (at int64) {
	next := c.next.Load()
	if now < next {
		return next
	}
	if c.next.CompareAndSwap(next, now+countInterval) { // else another queue pair has just counted it
		c.n.Add(1)
	}
	return 0
}

// Changes are networks of which routes have changed: to some of their addresses packets may have another way now, and some may
// have become the host's own. The zero value is none.
type Changes struct {
	n        int
	networks [maxChanged]ipaddr.Network
	all      bool // any address: a routing rule has changed, there were too many networks, or news was lost
}

// maxChanged is how many networks are told apart.
const maxChanged = 32

// Any reports whether anything has changed.
func (c *Changes) Any() bool { return c.all || c.n > 0 }

// Forget empties c.
func (c *Changes) Forget() { c.n, c.all = 0, false }

// Covers reports whether something has changed for an address.
func (c *Changes) Covers(a *ipaddr.Addr) bool {
	if c.all {
		return true
	}
	at := a.Words()
	for i := range c.networks[:c.n] {
		if c.networks[i].Contains(&at) {
			return true
		}
	}
	return false
}

// note takes the messages b into account. An address that comes or goes is told twice: by a message of its own, and by that
// of its route, which is what counts here.
func (c *Changes) note(b []byte) {
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.SizeofNlMsghdr {
			return
		}
		message := b[:min(size, len(b))]
		switch binary.NativeEndian.Uint16(b[nlType:]) {
		case unix.RTM_NEWRULE, unix.RTM_DELRULE:
			c.all = true
		case unix.RTM_NEWROUTE:
			if len(message) <= routeType || isHostRoute(message[routeType]) {
				c.add(message)
			}
		case unix.RTM_DELROUTE: // it may have stood in front of a route to the host
			c.add(message)
		}
		b = b[min(nlAlign(size), len(b)):]
	}
}

// isHostRoute reports whether packets end on this host that go by a route of a kind.
func isHostRoute(kind uint8) bool { return kind == unix.RTN_LOCAL || kind == unix.RTN_ANYCAST }

// nlAlign rounds a length up as messages and their attributes are.
func nlAlign(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// add adds the destination of a message about a route.
func (c *Changes) add(message []byte) {
	const fixed = unix.SizeofNlMsghdr + unix.SizeofRtMsg
	if len(message) < fixed || c.n == maxChanged {
		c.all = true
		return
	}
	family, bits := message[unix.SizeofNlMsghdr], int(message[unix.SizeofNlMsghdr+1])
	to, known := destinationOf(message[fixed:], family, bits)
	if !known {
		c.all = true
		return
	}
	c.networks[c.n] = ipaddr.NetworkOf(&to, bits)
	c.n++
}

// destinationOf finds the destination among the attributes of a route, which has none if it is the default route. !known means
// that the message is not understood.
func destinationOf(b []byte, family uint8, bits int) (to ipaddr.Addr, known bool) {
	switch {
	case family == unix.AF_INET && bits <= 32:
		to = ipaddr.From4([]byte{0, 0, 0, 0})
	case family == unix.AF_INET6 && bits <= 128:
	default:
		return to, false
	}
	value, whole := findAttribute(b, unix.RTA_DST, len(to.Bytes()))
	copy(to.Bytes(), value)
	return to, value != nil || whole && bits == 0
}
