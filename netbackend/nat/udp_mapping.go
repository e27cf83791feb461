package nat

import "golang.org/x/sys/unix"

// With Config.EndpointIndependent, all that a port of the guest sends leaves by one port of the host, whomever it goes to
// (RFC 4787 section 4.1). Programs that tell each other their ports through a third one, as those behind other NATs do,
// then find each other. What comes in must be from somebody the guest has sent to (address and port-dependent filtering,
// section 5).
//
// Such a socket is a forward that nobody asked for: it is not connected, flows share it, and it ends with the last of them.

// mapping returns the socket that a port of the guest has, after making it if need be, nil if that cannot be done.
func (p *Port) mapping(guest endpoint) *listener {
	if i, ok := p.mappings[guest]; ok {
		return &p.listen[i]
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		p.hit(limitHost)
		return nil
	}
	l := p.vacancy()
	*l = listener{fd: int32(fd), proto: protoUDP, to: guest, index: l.index, mapped: true}
	l.socket.gro = p.prepareUDP(fd)
	if err := p.worker.RegisterInput(fd, token(tokenListener, 0, l.index)); err != nil {
		p.hit(limitHost)
		p.endMapping(l)
		return nil
	}
	p.mappings[guest] = l.index
	return l
}

// vacancy returns a free record for a listener.
func (p *Port) vacancy() *listener {
	if n := len(p.vacant); n > 0 {
		l := &p.listen[p.vacant[n-1]]
		p.vacant = p.vacant[:n-1]
		return l
	}
	p.listen = append(p.listen, listener{index: uint32(len(p.listen))})
	return &p.listen[len(p.listen)-1]
}

// share makes a flow for the guest's first datagram to somebody that leaves by a mapping.
func (p *Port) share(key *flowKey, to endpoint, c crowd) *flow {
	l := p.mapping(endpoint{addr: key.guest, port: key.guestPort})
	if l == nil {
		return nil
	}
	l.users++ // before a flow is given up for this one
	f := p.createWith(key, int(l.fd), stateUDP, shared, c, udpFlow{peer: to, via: l.index + 1})
	if f == nil {
		p.release(l)
	}
	return f
}

// release notes that a flow does without the socket of l from now on.
func (p *Port) release(l *listener) {
	if !l.mapped {
		return
	}
	if l.users--; l.users == 0 {
		p.worker.Unregister(int(l.fd))
		delete(p.mappings, l.to)
		p.endMapping(l)
	}
}

// endMapping closes the socket of a mapping and frees its record.
func (p *Port) endMapping(l *listener) {
	_ = unix.Close(int(l.fd))
	*l = listener{fd: -1, index: l.index, proto: protoUDP, mapped: true}
	p.vacant = append(p.vacant, l.index)
}
