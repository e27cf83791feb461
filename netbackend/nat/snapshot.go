package nat

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/bootserver"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/measure"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/services/dnscache"
)

// Snapshot is the state of an engine at one moment.
type Snapshot struct {
	Guest    netip.Addr
	Flows    []FlowInfo // oldest first
	Usage    []Usage
	Counters Counters
}

// Usage is how much of a limit is used up.
type Usage struct {
	Name       string
	Used, Most int
}

// FlowInfo describes a TCP connection, a UDP association, or a series of echo requests.
type FlowInfo struct {
	Proto     uint8          // unix.IPPROTO_TCP, unix.IPPROTO_UDP or unix.IPPROTO_ICMP
	Inbound   bool           // the host began it
	By        Origin         // how the host began it, "" if it did not
	Guest     netip.AddrPort // the guest's end
	Remote    netip.AddrPort // the other end, as the guest sees it
	Host      netip.AddrPort // the engine's socket; the zero AddrPort if there is none any more
	Path      string         // of that socket, if it is a unix one, which has no AddrPort
	Target    netip.AddrPort // that socket's peer; the zero AddrPort if it is not connected
	State     string         // one of FlowStates; behind it in parentheses, why connections stand still
	FromGuest uint64         // bytes of payload that the host's socket took; echo requests are not counted
	ToGuest   uint64         // bytes of payload that the guest acknowledged; with UDP, was sent
	Age       time.Duration
}

// Origin is how the host has begun a flow.
type Origin string

// All that there are.
const (
	OriginForward Origin = "forward"
	OriginConnect Origin = "connect" // by a Call for the client of a unix socket
	OriginSOCKS   Origin = "socks"   // by a Call for the client of a port
)

func originOf(b shard.Bits) Origin {
	switch {
	case b&shard.Inbound == 0:
		return ""
	case b&shard.Direct == 0:
		return OriginForward
	case b&shard.UnixSocket != 0:
		return OriginConnect
	}
	return OriginSOCKS
}

// ProtoName returns "tcp", "udp" or "icmp".
func (f *FlowInfo) ProtoName() string { return spec.ProtoName(f.Proto) }

// Snapshot describes all flows and counters. now is the time as for Turn. The worker's thread may call it, or anybody
// after Close. It takes two system calls a flow.
func (p *Port) Snapshot(now int64) Snapshot {
	s := Snapshot{Guest: p.cfg.Guest, Counters: p.shard.Counters, Usage: p.usage()}
	p.shard.ForEachFrom(shard.FirstRecord, func(f *shard.Flow) bool {
		s.Flows = append(s.Flows, p.describeNow(f, now))
		return true
	})
	slices.SortFunc(s.Flows, func(a, b FlowInfo) int { return cmp.Compare(b.Age, a.Age) })
	return s
}

// usage returns the limits of what a guest can fill, and the memory of its sockets behind those of flows and sockets.
func (p *Port) usage() []Usage {
	held, mostHeld := p.shard.Pairs.Memory.Usage()
	return slices.Insert(p.Limits(), 2, Usage{"KiB of kernel memory", held, mostHeld})
}

// Limits returns how much a guest has of what it may have so many of. It is that of the guest, whatever queue pair is asked. Anybody may
// call it at any time.
func (p *Port) Limits() []Usage {
	u := []Usage{
		{"flows", p.shard.Flows.Live(), p.shard.Flows.Max()},
		{"sockets", p.shard.Sockets(), p.shard.MaxSockets()},
	}
	for c := shard.ClassNone + 1; c < shard.NumClasses; c++ {
		u = append(u, Usage{c.String(), p.shard.ClassSize(c), p.shard.ClassLimit(c)})
	}
	queries, mostQueries := p.guest.names.Queries()
	streams, mostStreams := p.guest.names.Streams()
	if cache := p.guest.names.Cache(); cache != nil {
		u = append(u, Usage{"answers kept", cache.Stats().Entries, dnscache.MaxCached})
	}
	if p.guest.boot != nil {
		u = append(u, Usage{"boot sessions", p.guest.boot.Sessions(), bootserver.MaxSessions})
	}
	return append(u, Usage{"queries", queries, mostQueries}, Usage{"name server connections", streams, mostStreams},
		Usage{"measuring connections", p.guest.tcp.Services.Open(), measure.MaxConnections})
}

// describeNow describes a flow, with why it stands still if it does.
func (p *Port) describeNow(f *shard.Flow, now int64) FlowInfo {
	info := p.describe(f, now)
	if why := p.presence.Standstill(); why != "" && f.Key.Proto == netpkt.TCP && f.State != shard.StateLingering {
		info.State += " (" + why + ")"
	}
	return info
}

func (p *Port) describe(f *shard.Flow, now int64) FlowInfo {
	info := FlowInfo{
		Proto: f.Key.Proto, Inbound: f.Bits&shard.Inbound != 0, By: originOf(f.Bits),
		Guest:  netip.AddrPortFrom(f.Key.Guest.Netip(), f.Key.GuestPort),
		Remote: f.Key.RemoteAddrPort(),
		State:  p.stateOf(f), FromGuest: f.FromGuest, ToGuest: f.ToGuest, Age: time.Duration(now - f.CreatedAt),
	}
	if f.FD < 0 {
		return info
	}
	if f.Bits&shard.UnixSocket != 0 {
		info.Path = pathOf(unix.Getsockname(int(f.FD)))
		return info
	}
	info.Host = hostsock.AddrPortOf(unix.Getsockname(int(f.FD)))
	if f.Bits&shard.SharedSocket != 0 {
		info.Target = p.udp.PeerOf(f).Netip()
	} else {
		info.Target = hostsock.AddrPortOf(unix.Getpeername(int(f.FD)))
	}
	return info
}

// pathOf takes what getsockname returns of a unix socket.
func pathOf(sa unix.Sockaddr, _ error) string {
	if a, ok := sa.(*unix.SockaddrUnix); ok {
		return a.Name
	}
	return ""
}

// StateOf says in a word where a flow stands.
func (p *Port) stateOf(f *shard.Flow) string {
	switch {
	case f.Key.Proto == netpkt.UDP:
		return stateAssociated
	case f.Key.Proto == netpkt.ICMP:
		return statePinging
	case f.State == shard.StateLingering:
		return stateLingering
	}
	return p.tcp.StateOf(f)
}
