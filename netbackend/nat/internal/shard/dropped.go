package shard

import (
	"net/netip"

	"github.com/vringnet/vring/netbackend/drops"
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// dropLog is what a queue pair has dropped last.
type dropLog struct {
	drops.Log
	names map[*uint64]string // of the shard's counters
	head  [vnet.HeaderLen + drops.HeadLen]byte

	chains []virtqueue.Chain // that the guest has sent, and the turn handles
	before uint64            // frames that were counted before the first of them
}

// frame returns the chain of the frame that is handled now, nil if none is. counted is how many frames there were.
func (l *dropLog) frame(counted uint64) *virtqueue.Chain {
	if i := counted - l.before - 1; i < uint64(len(l.chains)) {
		return &l.chains[i]
	}
	return nil
}

// Handle says which frames of the guest the turn handles, each of which counts itself, and Handled that it has.
func (t *Turn) Handle(chains []virtqueue.Chain) {
	t.drops.chains, t.drops.before = chains, t.Counters.FramesIn
}

// Handled is explained at Handle.
func (t *Turn) Handled() { t.drops.chains = nil }

// Drops returns what the queue pair has dropped last, the oldest first, with times of its clock. Anybody may call it at any time.
func (s *Shard) Drops() []drops.Drop { return s.drops.Last() }

// Drop counts that the frame of the guest that is handled goes nowhere, and keeps it in the log.
func (t *Turn) Drop(counter *uint64) {
	*counter++
	if t.drops.Takes(t.Now) {
		t.keepFrame(counter, "")
	}
}

// DropPart counts that n fragments go nowhere, and keeps in the log why: that of the frame that is handled if it is one of them, and no frame otherwise.
func (t *Turn) DropPart(counter *uint64, n int, handled bool) {
	if n == 0 {
		return
	}
	*counter += uint64(n)
	switch {
	case !t.drops.Takes(t.Now):
	case handled:
		t.keepFrame(counter, "")
	default:
		t.drops.Add(drops.Drop{Time: t.Now, Reason: t.drops.names[counter]})
	}
}

// keepEvicted keeps in the log that a flow had to go for another one, by a limit that has counted it.
func (t *Turn) keepEvicted(l limits.Limit, f *Flow) {
	if t.drops.Takes(t.Now) {
		t.drops.Add(drops.Drop{Time: t.Now, Reason: t.drops.names[l.Counter(&t.Counters)], Detail: l.String(), Frame: frameOf(&f.Key)})
	}
}

// keepFrame keeps the frame that is handled in the log. If the guest has changed it meanwhile, only the log is wrong by that.
func (t *Turn) keepFrame(counter *uint64, detail string) {
	d := drops.Drop{Time: t.Now, Reason: t.drops.names[counter], Detail: detail}
	if c := t.drops.frame(t.Counters.FramesIn); c != nil {
		head := t.drops.head[:t.HeaderLen+drops.HeadLen]
		n := guestmem.CopyFrom(head, c.Iov, 0)
		d.Frame = drops.ParseFrame(head[min(n, t.HeaderLen):n], max(int(c.Len)-t.HeaderLen, 0))
	}
	t.drops.Add(d)
}

// OverLimit is that of the shard, for what the frame that is handled asks for too much of.
func (t *Turn) OverLimit(l limits.Limit) {
	t.Shard.OverLimit(l)
	if l.Refuses() && t.drops.Takes(t.Now) {
		t.keepFrame(l.Counter(&t.Counters), l.String())
	}
}

// DropToGuest counts that something of a flow, or of what would be one, does not get to the guest, and keeps that in the log.
func (s *Shard) DropToGuest(counter *uint64, key *flowtable.Key) {
	*counter++
	s.KeepDrop(counter, key, true, func() string { return "" })
}

// KeepDrop keeps in the log that something of a flow was dropped, which was counted. detail is asked for more of the reason if it is kept.
func (s *Shard) KeepDrop(counter *uint64, key *flowtable.Key, toGuest bool, detail func() string) {
	if !s.drops.Takes(s.LastTurn) {
		return
	}
	d := drops.Drop{Time: s.LastTurn, Reason: s.drops.names[counter], Detail: detail(), ToGuest: toGuest, Frame: frameOf(key)}
	if toGuest {
		d.Frame.Src, d.Frame.Dst = d.Frame.Dst, d.Frame.Src
	}
	s.drops.Add(d)
}

// frameOf returns what is known of a frame of the guest by its flow.
func frameOf(key *flowtable.Key) drops.Frame {
	f := drops.Frame{
		Proto: key.Proto, EtherType: netpkt.EtherIPv4,
		Src: netip.AddrPortFrom(key.Guest.Netip(), key.GuestPort), Dst: key.RemoteAddrPort(),
	}
	if !key.Guest.Is4() {
		f.EtherType = netpkt.EtherIPv6
	}
	if key.Proto != netpkt.TCP && key.Proto != netpkt.UDP {
		f.Src = netip.AddrPortFrom(f.Src.Addr(), 0) // it is an identifier
	}
	return f
}
