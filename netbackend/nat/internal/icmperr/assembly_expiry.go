package icmperr

import (
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/ipfrag"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// Packets whose fragments do not all come are given up after ipfrag.Timeout, and the guest is told, if it is known what they were
// (RFC 792 "time exceeded", RFC 4443 section 3.3).

// SendIncomplete tells the guest that a packet was given up. Without its first fragment nobody knows whose it was.
func (e *Sender) SendIncomplete(t *shard.Turn, a *ipfrag.Packet) {
	k := shard.Packet{Packet: netpkt.Packet{Src: a.Src, Dst: a.Dst, L4: a.Bytes(0, netpkt.ICMPLen)}}
	if !a.KnowsBeginning() || !e.mayBeTold(&k, a.Proto) {
		return
	}
	m := Error{
		Message: netpkt.TimeExceeded(k.Src.Is4(), netpkt.CodeReassembly), From: t.Nets.Of(&k.Src).Gateway,
		Key: &flowtable.Key{Guest: k.Src, Remote: k.Dst, Proto: netpkt.ProtoOf(a.Proto)}, Len: a.Len(), L4: k.L4,
	}
	t.To = hosts.ID(a.Tag)
	e.SendError(t, m)
}

// mayBeTold reports whether a packet may be answered by an ICMP error: not one from or to many, and none that is an ICMP error
// itself (RFC 1122 section 3.2.2). It has at least netpkt.ICMPLen bytes.
func (e *Sender) mayBeTold(k *shard.Packet, proto uint8) bool {
	isError := proto == netpkt.ICMPProto(&k.Src) && !netpkt.IsEchoRequest(&k.Src, k.L4)
	return !isError && !e.shard.OtherGuests[k.Src] && e.shard.IsUnicastPeer(k) && !e.shard.Nets.IsBroadcast(&k.Dst)
}
