package nat

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// routeNews tells a queue pair that links, addresses, routes or routing rules of the host have changed (rtnetlink(7)). It
// needs no right, but the socket must be opened before the sandbox is entered.
//
// Each queue pair has one of its own, so that its thread learns of a change by itself, as soon as it is awake. The kernel
// has put the news there before the program that made the change can go on.
type routeNews struct {
	fd      int
	due     bool  // there may be something to read
	raiseAt int64 // when the number of changes is to be raised, 0 for never
	changed changedRoutes
	message [1024]byte // what a longer message has behind it is of no interest
}

// newsBurst is how many messages are read in one turn.
const newsBurst = 256

// open must come first.
func (n *routeNews) open() (err error) {
	const kind = unix.SOCK_RAW | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	if n.fd, err = unix.Socket(unix.AF_NETLINK, kind, unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("socket for news of routes: %w", err)
	}
	groups := uint32(0)
	for _, group := range []int{
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE,
		unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV6_RULE,
	} {
		groups |= 1 << (group - 1)
	}
	if err := unix.Bind(n.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		n.close()
		return fmt.Errorf("socket for news of routes: %w", err)
	}
	return nil
}

func (n *routeNews) close() { _ = unix.Close(n.fd) }

// read takes what there is, and tells whether there was something. What is left over is read in the next turn.
func (n *routeNews) read() (some bool) {
	for range newsBurst {
		size, err := unix.Read(n.fd, n.message[:])
		switch {
		case err == unix.EAGAIN:
			n.due = false
			return some
		case err != nil: // messages were lost (ENOBUFS)
			n.changed.all = true
		default:
			n.changed.note(n.message[:size])
		}
		some = true
	}
	return some
}

// changeCount counts the changes of the host's links, addresses and routes, as far as anybody has heard of them. All queue
// pairs of a guest share it: who keeps something that followed from routes compares the number, and looks again.
type changeCount struct {
	n    atomic.Uint32
	next atomic.Int64 // it is not raised before
}

// countInterval is how often the count is raised at most, in nanoseconds, so that a host whose routes change all the time
// (BGP) costs no more than that.
const countInterval = int64(200e6)

// number returns the number of changes so far, as far as flows remember it.
func (c *changeCount) number() uint16 { return uint16(c.n.Load()) }

// raise counts a change. If one was counted a moment ago, it returns when this one is to be counted, and else 0.
func (c *changeCount) raise(now int64) (at int64) {
	next := c.next.Load()
	if now < next {
		return next
	}
	if c.next.CompareAndSwap(next, now+countInterval) { // else another queue pair has just counted it
		c.n.Add(1)
	}
	return 0
}

// changedRoutes are networks of which routes have changed: to some of their addresses packets may have another way now, and
// some may have become the host's own. The addresses in front of which nothing has changed are in none.
type changedRoutes struct {
	n        int
	networks [maxChanged]struct{ network, mask [2]uint64 }
	all      bool // any address: a routing rule has changed, there were too many networks, or news was lost
}

// maxChanged is how many networks are told apart.
const maxChanged = 32

func (c *changedRoutes) any() bool { return c.all || c.n > 0 }

func (c *changedRoutes) forget() { c.n, c.all = 0, false }

// covers tells whether something has changed for an address.
func (c *changedRoutes) covers(a *ipaddr.Addr) bool {
	if c.all {
		return true
	}
	at := a.Words()
	for _, w := range c.networks[:c.n] {
		if (at[0]^w.network[0])&w.mask[0] == 0 && (at[1]^w.network[1])&w.mask[1] == 0 {
			return true
		}
	}
	return false
}

// note takes the messages b into account. An address that comes or goes is told twice: by a message of its own, and by that
// of its route, which is what counts here.
func (c *changedRoutes) note(b []byte) {
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

// isHostRoute tells whether packets end on this host that go by a route of a kind.
func isHostRoute(kind uint8) bool { return kind == unix.RTN_LOCAL || kind == unix.RTN_ANYCAST }

// nlAlign rounds a length up as messages and their attributes are.
func nlAlign(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// add adds the destination of a message about a route.
func (c *changedRoutes) add(message []byte) {
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
	if family == unix.AF_INET {
		bits += 96 // addresses of IPv4 are mapped ones
	}
	w := &c.networks[c.n]
	w.mask, w.network = maskWords(bits), to.Words()
	w.network[0] &= w.mask[0]
	w.network[1] &= w.mask[1]
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

// readNews reads what has changed on the host.
func (p *Port) readNews() {
	if n := &p.news; n.due || n.raiseAt != 0 && p.now >= n.raiseAt {
		p.takeNews()
	}
}

func (p *Port) takeNews() {
	n := &p.news
	if n.due && n.read() || n.raiseAt != 0 && p.now >= n.raiseAt {
		n.raiseAt = p.pairs.changes.raise(p.now)
	}
	p.again = p.again || n.due
}

// closeNews closes what readNews reads.
func (p *Port) closeNews() {
	if p.worker != nil {
		p.worker.Unregister(p.news.fd)
	}
	p.news.close()
}
