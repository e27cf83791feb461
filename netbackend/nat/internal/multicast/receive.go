package multicast

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// Kind is what was received.
type Kind uint8

// Kinds.
const (
	Nothing   Kind = iota // there is no more for now
	ForGuest              // what the guest is to get
	Question              // somebody else's question or search, or a message that nobody needs
	Stranger              // from outside of the interface's networks, or not as the protocol wants it
	Distorted             // it cannot be understood, or is too long
)

// Datagram is what the network sent.
type Datagram struct {
	Kind    Kind
	Group   Group
	From    netip.AddrPort // without a zone
	Own     bool           // From is an address of the host, by which it is in the network
	Asked   bool           // it goes to To only, which had asked; otherwise to the group
	To      netip.AddrPort
	Is6     bool
	Payload []byte // valid until the next call
}

// Receive returns what came next. Asks whose time is over at now end.
func (r *Reflector) Receive(now int64) Datagram {
	r.mu.Lock()
	defer r.mu.Unlock()
	for range polls {
		if r.ready == 0 && r.poll(now) == 0 {
			return Datagram{}
		}
		for r.ready > 0 {
			i := r.turn()
			n, errno := r.in.receive(int(r.polled[i].Fd))
			if errno == 0 {
				return r.judge(&r.of[i], r.in.payload[:n])
			}
			r.polled[i].Revents = 0 // it is empty, or an error was waiting, and there may be more
			r.ready--
		}
	}
	return Datagram{}
}

// polls is how often Receive looks for something before it takes a socket's word for it that there is nothing.
const polls = 3

// turn returns the next socket that has something: each has its turn.
func (r *Reflector) turn() int {
	for {
		i := r.next
		if r.next++; r.next == len(r.polled) {
			r.next = 0
		}
		if r.polled[i].Revents != 0 {
			return i
		}
	}
}

// poll finds the sockets that have something, and returns how many.
func (r *Reflector) poll(now int64) int {
	r.expire(now)
	n := 0
	for _, l := range r.links {
		for g := range groups {
			for version := range versions {
				n = r.await(n, l.members[g][version], origin{link: l, group: g, version: version})
			}
		}
	}
	for i := range r.asks.all[:r.asks.n] {
		a := &r.asks.all[i]
		n = r.await(n, a.fd, origin{group: a.group, version: a.version, guest: a.guest})
	}
	clear(r.polled[n:])
	if found, err := unix.Poll(r.polled[:n], 0); err == nil {
		r.ready = found
	}
	if r.ready == 0 {
		r.readTimer(now)
	}
	return r.ready
}

// await makes a socket, if there is one, the n-th of those that are polled, and returns how many these are then.
func (r *Reflector) await(n, fd int, o origin) int {
	if fd < 0 {
		return n
	}
	r.polled[n], r.of[n] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}, o
	return n + 1
}

// readTimer sets the timer for the next ask that ends, if it has run out.
func (r *Reflector) readTimer(now int64) {
	if !r.armed {
		return
	}
	if _, err := unix.Read(r.timer, r.expirations[:]); err != nil {
		return
	}
	r.armed = false
	if r.asks.n > 0 {
		r.arm(max(r.asks.all[0].until-now, 1))
	}
}

// judge says what a datagram is.
func (r *Reflector) judge(o *origin, payload []byte) Datagram {
	d := Datagram{
		Group: o.group, From: r.in.from, Asked: o.link == nil, To: o.guest, Is6: o.version == v6, Payload: payload,
	}
	l := r.linkOf(r.in.link)
	switch {
	case l == nil || !l.holds(d.From.Addr()) || o.link != nil && l != o.link:
		d.Kind = Stranger
		return d
	case r.in.long:
		d.Kind = Distorted
		return d
	}
	d.Own = l.owns(d.From.Addr())
	if d.Group == MDNS {
		d.Kind = r.judgeMDNS(&d)
	} else {
		d.Kind = judgeSSDP(&d)
	}
	return d
}

// linkOf returns the link with an index, nil if it is none of ours.
func (r *Reflector) linkOf(index uint32) *link {
	for _, l := range r.links {
		if l.index == index && index != 0 {
			return l
		}
	}
	return nil
}

// judgeMDNS looks for responses. These come from port 5353 (RFC 6762 section 6), and those by unicast from the same link, which
// the time to live shows: it is 255, and no router has lowered it (section 11). To the group no router sends anything.
func (r *Reflector) judgeMDNS(d *Datagram) Kind {
	switch m := d.Payload; {
	case len(m) < dnsHeaderLen:
		return Distorted
	case m[2]&isResponse == 0:
		return Question
	case d.From.Port() != MDNSPort || d.Asked && r.in.hops != MDNSHops:
		return Stranger
	case !response(m):
		return Distorted
	}
	return ForGuest
}

// judgeSSDP looks for announcements, and for answers to a search.
func judgeSSDP(d *Datagram) Kind {
	if d.Asked && isAnswer(d.Payload) || !d.Asked && isNotify(d.Payload) {
		return ForGuest
	}
	return Question
}
