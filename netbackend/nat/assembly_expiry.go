package nat

// Packets whose fragments do not all come are given up after assemblyTimeout, and the guest is told, if it is known what they were
// (RFC 792 "time exceeded", RFC 4443 section 3.3).

// codeReassembly is "fragment reassembly time exceeded", in both versions of IP.
const codeReassembly = 1

// assemblyAt returns when the first incomplete packet is to be given up, 0 for never.
func (p *Port) assemblyAt() (at int64) {
	for i := range p.assemblies {
		if d := p.assemblies[i].deadline; d != 0 && (at == 0 || d < at) {
			at = d
		}
	}
	return at
}

// expireAssemblies gives up what has been incomplete for too long.
func (p *Port) expireAssemblies() {
	if p.expiryAt != 0 && p.now >= p.expiryAt {
		p.giveUpAssemblies()
	}
}

func (p *Port) giveUpAssemblies() {
	for i := range p.assemblies {
		if a := &p.assemblies[i]; a.deadline != 0 && a.deadline <= p.now {
			p.tellIncomplete(a)
			a.giveUp(&p.counters.FragmentTimeouts)
		}
	}
	p.expiryAt = p.assemblyAt()
}

// tellIncomplete tells the guest that a packet was given up. Without its first fragment nobody knows whose it was.
func (p *Port) tellIncomplete(a *assembly) {
	k := packet{src: a.key.src, dst: a.key.dst, l4: a.buf[assemblyHead : assemblyHead+icmpLen]}
	if a.spoiled || a.held == 0 || a.seen[0]&1 == 0 || !p.mayBeTold(&k, a.key.proto) {
		return
	}
	m := icmpError{
		icmpMessage: icmpMessage{icmpTimeExceeded, codeReassembly}, from: p.nets.of(&k.src).gateway,
		key: &flowKey{guest: k.src, remote: k.dst, proto: protocolOf(a.key.proto)}, n: a.have, l4: k.l4,
	}
	if !k.src.Is4() {
		m.kind = icmp6TimeExceeded
	}
	p.to = a.from
	p.sendError(m)
}

// mayBeTold reports whether a packet may be answered by an ICMP error: not one from or to many, and none that is an ICMP error
// itself (RFC 1122 section 3.2.2). It has at least icmpLen bytes.
func (p *Port) mayBeTold(k *packet, proto uint8) bool {
	isError := proto == icmpProto(&k.src) && !isEchoRequest(&k.src, k.l4)
	return !isError && !p.others[k.src] && p.conversational(k) && !p.nets.broadcast(&k.dst)
}

// protocolOf returns the number by which flows name a protocol.
func protocolOf(proto uint8) uint8 {
	if proto == protoICMPv6 {
		return protoICMP
	}
	return proto
}
