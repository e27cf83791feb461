package udp

import (
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/measure"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// Datagrams to a service of package measure begin no flow: each is answered, or not, in the turn that it comes in. What finds no receive
// buffer is dropped. So is an answer that would be longer than the question, beyond what is answered in a second.

// answer gives a service a datagram, whose length with the UDP header is that.
func (e *Engine) answer(t *shard.Turn, key *flowtable.Key, k *shard.Packet, length int, service measure.Service) {
	t.Counters.MeasuredDatagrams++
	if service == measure.Discard {
		return
	}
	if !measure.Answers(key.GuestPort) {
		t.Drop(&t.Counters.MeasuredIgnored)
		return
	}
	if service == measure.Echo {
		e.echo(t, key, k, length-netpkt.UDPLen)
		return
	}
	if t.Allow(limits.Chargen) {
		e.sendCharacters(t, key)
	}
}

// echo sends n bytes of payload back, in datagrams as the guest has sent them.
func (e *Engine) echo(t *shard.Turn, key *flowtable.Key, k *shard.Packet, n int) {
	if n > e.fragments.MaxPayload(&key.Guest) || k.Segment != 0 {
		e.echoLong(t, key, k, n)
		return
	}
	if !e.reserveAnswer(t, key, n) {
		return
	}
	payload := t.Frame[:guestmem.CopyFrom(t.Frame[:n], k.Chain.Iov, k.L4Offset+netpkt.UDPLen)]
	guestmem.CopyTo(e.rxBatch.lease.Frame(0), shard.UDPHeaders(&key.Guest), payload)
	e.commitDatagrams(t, key, 0, n, 0)
}

// echoLong is echo for what fits no frame of its own.
func (e *Engine) echoLong(t *shard.Turn, key *flowtable.Key, k *shard.Packet, n int) {
	if !e.fragments.SendRest(t) {
		t.DropToGuest(&t.Counters.NoRoom, key) // the guest has no room for the one before
		return
	}
	if payload := t.CopyPayload(k, netpkt.UDPLen+n); payload != nil {
		e.fragments.SendDatagrams(t, key, payload, k.Segment)
	}
}

// sendCharacters answers a datagram to chargen.
func (e *Engine) sendCharacters(t *shard.Turn, key *flowtable.Key) {
	number := t.Counters.MeasuredDatagrams
	n := int(number * 0x9e3779b97f4a7c15 >> 32 % (measure.MaxDatagram + 1)) // of any length (RFC 864); this spreads numbers in a row
	if !e.reserveAnswer(t, key, n) {
		return
	}
	guestmem.CopyTo(e.rxBatch.lease.Frame(0), shard.UDPHeaders(&key.Guest), e.guest.Pattern.Line(number, n))
	e.commitDatagrams(t, key, 0, n, 0)
}

// reserveAnswer makes room for an answer of n bytes, or drops it.
func (e *Engine) reserveAnswer(t *shard.Turn, key *flowtable.Key, n int) bool {
	e.rxBatch.lease = netbackend.Lease{}
	if e.fragments.SendRest(t) && !t.RXFull {
		length := max(shard.UDPHeaders(&key.Guest)+n, netbackend.MinFrame)
		e.rxBatch.lease = t.RX.Reserve(netbackend.Request{Min: length, Max: length})
	}
	if e.rxBatch.lease.Len() == 0 {
		t.DropToGuest(&t.Counters.NoRoom, key)
		return false
	}
	return true
}
