package nat

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/spec"
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

func originOf(b flowBits) Origin {
	switch {
	case b&inbound == 0:
		return ""
	case b&direct == 0:
		return OriginForward
	case b&unixSocket != 0:
		return OriginConnect
	}
	return OriginSOCKS
}

// ProtoName returns "tcp", "udp" or "icmp".
func (f *FlowInfo) ProtoName() string { return spec.ProtoName(f.Proto) }

// Snapshot describes all flows and counters. now is the time as for Turn. The worker's thread may call it, or anybody
// after Close. It takes two system calls a flow.
func (p *Port) Snapshot(now int64) Snapshot {
	s := Snapshot{Guest: p.cfg.Guest, Counters: p.shard.counters, Usage: p.usage()}
	p.shard.flows.each(p.shard.me, func(f *flow) {
		s.Flows = append(s.Flows, p.describeNow(f, now))
	})
	slices.SortFunc(s.Flows, func(a, b FlowInfo) int { return cmp.Compare(b.Age, a.Age) })
	return s
}

// usage returns the limits of what a guest can fill.
func (p *Port) usage() []Usage {
	held, mostHeld := p.shard.pairs.memory.usage()
	u := []Usage{
		{"flows", p.shard.flows.Live(), p.shard.flows.Max()},
		{"sockets", p.shard.sockets(), p.shard.maxSockets()},
		{"KiB of kernel memory", held, mostHeld},
	}
	for c := classNone + 1; c < classes; c++ {
		u = append(u, Usage{c.String(), p.shard.classSize(c), p.shard.classLimit(c)})
	}
	queries, mostQueries := p.guest.names.Queries()
	streams, mostStreams := p.guest.names.Streams()
	return append(u, Usage{"queries", queries, mostQueries}, Usage{"name server connections", streams, mostStreams})
}

// describeNow describes a flow, with why it stands still if it does.
func (p *Port) describeNow(f *flow, now int64) FlowInfo {
	info := p.describe(f, now)
	if why := p.standstill(); why != "" && f.key.Proto == netpkt.TCP {
		info.State += " (" + why + ")"
	}
	return info
}

func (p *Port) describe(f *flow, now int64) FlowInfo {
	info := FlowInfo{
		Proto: f.key.Proto, Inbound: f.bits&inbound != 0, By: originOf(f.bits),
		Guest:  netip.AddrPortFrom(f.key.Guest.Netip(), f.key.GuestPort),
		Remote: f.key.RemoteAddrPort(),
		State:  p.stateOf(f), FromGuest: f.fromGuest, ToGuest: f.toGuest, Age: time.Duration(now - f.begun),
	}
	if f.fd < 0 {
		return info
	}
	if f.bits&unixSocket != 0 {
		info.Path = pathOf(unix.Getsockname(int(f.fd)))
		return info
	}
	info.Host = addrPortOf(unix.Getsockname(int(f.fd)))
	if f.bits&shared != 0 {
		info.Target = p.udp.peerOf(f).Netip()
	} else {
		info.Target = addrPortOf(unix.Getpeername(int(f.fd)))
	}
	return info
}

// addrPortOf takes what getsockname and getpeername return.
func addrPortOf(sa unix.Sockaddr, err error) netip.AddrPort {
	if err != nil {
		return netip.AddrPort{}
	}
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port)) // the link of a local one does not matter here
	}
	return netip.AddrPort{}
}

// pathOf takes what getsockname returns of a unix socket.
func pathOf(sa unix.Sockaddr, _ error) string {
	if a, ok := sa.(*unix.SockaddrUnix); ok {
		return a.Name
	}
	return ""
}

// stateOf says in a word where a flow stands.
func (p *Port) stateOf(f *flow) string {
	switch f.key.Proto {
	case netpkt.UDP:
		return "associated"
	case netpkt.ICMP:
		return "pinging"
	}
	return p.tcp.stateOf(f)
}

// stateOf says in a word where a connection stands.
func (e *tcpEngine) stateOf(f *flow) string { return stateName(f.state, e.conn(f).tcp.flags) }

// stateName says in a word what a state and flags of TCP mean.
func stateName(state flowState, flags tcpFlags) string {
	switch state {
	case stateConnecting:
		return "connecting" // to the target; the guest waits
	case stateSynRcvd:
		return "answered" // the guest's SYN was, and its ACK is awaited
	case stateAwaitProxy:
		return "unannounced" // its PROXY header is awaited
	case stateSynSent:
		return "calling" // the guest has not answered our SYN yet
	case stateReset:
		return "resetting" // the guest is to be told
	}
	switch flags & (guestFIN | finSent) {
	case guestFIN:
		return "guest-closed" // the host may still send
	case finSent:
		return "host-closed" // the guest may still send
	case guestFIN | finSent:
		return "closing"
	}
	return "open"
}
