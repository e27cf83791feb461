package nat

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// FlowFilter chooses flows: those that have all that is set of it. The zero FlowFilter chooses all.
type FlowFilter struct {
	Proto     uint8      // as that of FlowInfo; 0 stands for all
	Inbound   *bool      // as that of FlowInfo
	Guest     netip.Addr // the address of the guest's end
	GuestPort uint16     // the port of the guest's end; 0 stands for all, and for ICMP, which has none
	Remote    spec.Rule  // is to match the other end, as the guest sees it; the zero Rule matches all
	State     string     // one of FlowStates, "" for all
}

// IsZero reports whether f is the zero FlowFilter.
func (f *FlowFilter) IsZero() bool {
	return f.Proto == 0 && f.Inbound == nil && !f.Guest.IsValid() && f.GuestPort == 0 && !f.Remote.Prefix.IsValid() && f.State == ""
}

// Check returns what is wrong with f.
func (f *FlowFilter) Check() error {
	if f.State != "" && !slices.Contains(FlowStates(), f.State) {
		return fmt.Errorf("there is no state %q; there are %q", f.State, FlowStates())
	}
	return nil
}

// chooses reports whether filter chooses f.
func (p *Port) chooses(filter *FlowFilter, f *shard.Flow) bool {
	return filter.matches(f) && (filter.State == "" || filter.State == p.stateOf(f))
}

// matches reports whether f chooses a flow, as far as its state does not matter.
func (f *FlowFilter) matches(of *shard.Flow) bool {
	k := &of.Key
	switch {
	case f.Proto != 0 && f.Proto != k.Proto,
		f.Inbound != nil && *f.Inbound != (of.Bits&shard.Inbound != 0),
		f.Guest.IsValid() && f.Guest != k.Guest.Netip(),
		f.GuestPort != 0 && (f.GuestPort != k.GuestPort || k.Proto == netpkt.ICMP):
		return false
	}
	return !f.Remote.Prefix.IsValid() || f.Remote.Matches(k.Proto, k.RemoteAddrPort())
}

// What of a guest's flows is looked at, or ended, between two turns is counted in flows that are looked at and not chosen: there may be
// flowSlice of them, which take some 0.1 ms. To describe one takes two system calls, and to end one closes a socket.
const (
	flowSlice    = 4096
	describeCost = 64
	killCost     = 400
)

// Flows describes flows of this queue pair that filter chooses: as many as there is time for between two turns. from is 0 at first, and
// later the next of the call before; next is 0 after the last ones. What begins or changes its queue pair between two calls may be left
// out. now is the time as for Turn. The worker's thread may call it, or anybody after Close.
func (p *Port) Flows(now int64, from uint32, filter *FlowFilter) (some []FlowInfo, next uint32) {
	next = p.someFlows(from, filter, describeCost, func(f *shard.Flow) {
		some = append(some, p.describeNow(f, now))
	})
	return some, next
}

// EndFlows ends flows that filter chooses, some at a time, as Flows describes them: it returns how many. Both sides of a connection learn
// it by a reset. Those that have ended before, and whose guest is yet to be told, are none of them.
func (p *Port) EndFlows(from uint32, filter *FlowFilter) (ended int, next uint32) {
	next = p.someFlows(from, filter, killCost, func(f *shard.Flow) {
		if !p.tcp.IsOver(f) {
			p.kill(f)
			ended++
		}
	})
	return ended, next
}

// someFlows calls fn for flows that filter chooses, each of which costs that much, until a slice is used up.
func (p *Port) someFlows(from uint32, filter *FlowFilter, cost int, fn func(*shard.Flow)) (next uint32) {
	left := flowSlice
	return p.shard.ForEachFrom(max(from, shard.FirstRecord), func(f *shard.Flow) bool {
		left--
		if p.chooses(filter, f) {
			left -= cost
			fn(f)
		}
		return left > 0
	})
}

// kill ends a flow since somebody wants it.
func (p *Port) kill(f *shard.Flow) {
	if f.State == shard.StateLingering {
		p.shard.ResetLingering(f)
		return
	}
	if f.Key.Proto == netpkt.TCP {
		p.tcp.End(f)
		return
	}
	p.shard.Remove(f)
}
