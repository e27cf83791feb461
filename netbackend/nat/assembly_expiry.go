package nat

import (
	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/ipfrag"
)

// Packets whose fragments do not all come are given up after ipfrag.Timeout, and the guest is told, if it is known what they were
// (RFC 792 "time exceeded", RFC 4443 section 3.3).

// codeReassembly is "fragment reassembly time exceeded", in both versions of IP.
const codeReassembly = 1

// tellIncomplete tells the guest that a packet was given up. Without its first fragment nobody knows whose it was.
func (e *icmpSender) tellIncomplete(t *turn, a *ipfrag.Packet) {
	k := packet{src: a.Src, dst: a.Dst, l4: a.Bytes(0, icmpLen)}
	if !a.KnowsBeginning() || !e.mayBeTold(&k, a.Proto) {
		return
	}
	m := icmpError{
		icmpMessage: icmpMessage{icmpTimeExceeded, codeReassembly}, from: t.nets.Of(&k.src).Gateway,
		key: &flowKey{Guest: k.src, Remote: k.dst, Proto: protocolOf(a.Proto)}, n: a.Len(), l4: k.l4,
	}
	if !k.src.Is4() {
		m.kind = icmp6TimeExceeded
	}
	t.to = hosts.ID(a.Tag)
	e.sendError(t, m)
}

// mayBeTold reports whether a packet may be answered by an ICMP error: not one from or to many, and none that is an ICMP error
// itself (RFC 1122 section 3.2.2). It has at least icmpLen bytes.
func (e *icmpSender) mayBeTold(k *packet, proto uint8) bool {
	isError := proto == icmpProto(&k.src) && !isEchoRequest(&k.src, k.l4)
	return !isError && !e.shard.others[k.src] && e.shard.conversational(k) && !e.shard.nets.IsBroadcast(&k.dst)
}

// protocolOf returns the number by which flows name a protocol.
func protocolOf(proto uint8) uint8 {
	if proto == protoICMPv6 {
		return protoICMP
	}
	return proto
}
