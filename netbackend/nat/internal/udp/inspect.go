package udp

import (
	"runtime"

	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// An association may have to tell which server it is for before its datagrams leave. Then somebody looks at them, at all of them until the
// server is known, and later at those with a long header of QUIC. Of other associations this costs one test of a flag.
//
// The guest can write to its buffers until the kernel has read them. So what was looked at leaves from a copy, and the first byte of others,
// by which they are told apart, from one of its own.

// InspectorHooks are what UDP asks of who looks at datagrams.
type InspectorHooks struct {
	// Hold is called for an association of the guest's that begins and has to tell its server by QUIC.
	Hold func(f *shard.Flow)
	// Datagram takes a datagram of the guest's on such an association. d is valid during the call.
	Datagram func(t *shard.Turn, f *shard.Flow, d []byte, m hostsock.Manner)
}

// longHeader is the bit in the first byte of packets of QUIC with a long header (RFC 8999 section 5.1).
const longHeader = 0x80

// spareIovecs is how many pieces of a frame there may be at most for its datagrams to leave from where they are.
const spareIovecs = shard.MaxIovecs / 2

// copied is where a datagram is while it is looked at, and where it leaves from.
type copied struct {
	buffer []byte
	piece  [1]guestmem.Iovec
}

// PassShort lets datagrams of f pass by themselves from now on that have no long header of QUIC.
func (e *Engine) PassShort(f *shard.Flow) { e.of(f).traits |= passShort }

// inspect lets each of the datagrams in n bytes of payload pass, or has it looked at.
func (e *Engine) inspect(t *shard.Turn, f *shard.Flow, k *shard.Packet, n int) {
	segment := n
	if k.Segment != 0 {
		segment = k.Segment
	}
	q := txItem{iov: k.Chain.Iov, manner: t.MannerOf(k), known: true}
	for at := 0; f.State == shard.StateActive; at += segment {
		q.offset, q.n = k.L4Offset+netpkt.UDPLen+at, min(segment, n-at)
		q.segment = q.n
		if guestmem.CopyFrom(q.first[:min(q.n, 1)], q.iov, q.offset); e.passes(f, &q) {
			*e.room(t, f) = q
		} else {
			e.hooks.Inspector.Datagram(t, f, e.copyOf(&q), q.manner)
		}
		if at+segment >= n {
			return
		}
	}
}

// passes reports whether a datagram passes by itself.
func (e *Engine) passes(f *shard.Flow, q *txItem) bool {
	return e.of(f).traits&passShort != 0 && q.n > 0 && q.first[0]&longHeader == 0 && len(q.iov) <= spareIovecs
}

// copyOf returns a copy of a datagram, which is valid until the next call.
func (e *Engine) copyOf(q *txItem) []byte {
	c := &e.copied
	if len(c.buffer) < q.n {
		c.buffer = make([]byte, q.n)
	}
	return c.buffer[:guestmem.CopyFrom(c.buffer[:q.n], q.iov, q.offset)]
}

// SendCopy sends a datagram behind those that wait. It keeps nothing of d.
func (e *Engine) SendCopy(t *shard.Turn, f *shard.Flow, d []byte, m hostsock.Manner) {
	e.SendQueued(t)
	if f.State != shard.StateActive {
		return // what waited has ended it
	}
	e.copied.piece[0] = guestmem.PieceOf(d)
	*e.room(t, f) = txItem{iov: e.copied.piece[:], n: len(d), segment: len(d), manner: m}
	e.SendQueued(t)
	runtime.KeepAlive(d)
}

// Refuse ends an association that did not tell a server to which it may go, and tells the guest.
func (e *Engine) Refuse(t *shard.Turn, f *shard.Flow) {
	to := t.To
	t.To = f.Host
	e.icmp.SendUnreachable(t, &f.Key, netpkt.CodeProhibited, netpkt.UDPLen, e.header(f))
	t.To = to
	t.Remove(f)
}
