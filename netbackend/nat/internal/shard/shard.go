package shard

import (
	"sync/atomic"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/guestnet"
	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/ipfrag"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/timerwheel"
	"github.com/vringnet/vring/netbackend/nat/stats"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	// HeadLen is how much of a frame is copied before anything is decided by it: a virtio-net header, Ethernet, and
	// IPv4 and TCP with all the options they can have. IPv6 has fewer.
	HeadLen = vnet.HeaderLen + netpkt.EtherLen + 60 + 60
	// slowCopy is the longest frame that a service of ours (ARP, DHCP, ICMP) looks at: the longest of all.
	slowCopy = vnet.HeaderLen + netpkt.EtherLen + 65535

	MaxIovecs = 1024 // of one system call (UIO_MAXIOV)
)

// Shard is what a queue pair has of its guest whatever the protocol: its flows with their timers and lists, its share of limits,
// and the way to the guest. It knows no protocol; what it needs of those it asks by its hooks.
type Shard struct {
	Pair      uint32 // the number of the queue pair, from 0 on
	Owner     uint32 // its name as an owner of flows, which is never 0
	Pairs     *Pairs
	mailbox   mailbox
	turns     atomic.Uint64 // odd during a turn
	retired   retirement
	Listening bool // the forwards' listeners are in this queue pair's epoll set

	Cfg       Config
	Worker    netbackend.Worker
	Hooks     Hooks
	Flows     *Table
	Wheel     timerwheel.Wheel
	run       runList
	rxBlocked runList // flows that wait for receive buffers of the guest
	classes   [NumClasses]classList
	reports   limits.Reports
	Counters  stats.Counters
	drops     dropLog
	memory    memoryLook
	lingering lingerers

	HeaderLen   int  // of the virtio-net header, as negotiated
	GuestCsum   bool // the guest finishes checksums (VIRTIO_NET_F_GUEST_CSUM)
	Features    uint64
	Connected   bool
	Receiving   bool // the guest's receive ring runs
	MTU         int
	Gone        Absence // of the front end or the driver, which may come back
	DriverReset bool    // the driver has reset its device, and none has begun since

	Hosts       *hosts.Table         // of all queue pairs
	From        hosts.ID             // the host whose frame is handled, or was last
	found       uint32               // of hosts.Table.Found, when waiting connections were looked at last
	followed    uint32               // of hosts.Table.Moved, when FollowHosts looked last
	followAt    int64                // it does not look again before
	Nets        *guestnet.Networks   // the guest's, which do not change
	OtherGuests map[ipaddr.Addr]bool // addresses of other guests, which this one must not use
	Identity    IDHash
	packetID    uint16 // of the last packet to the guest that may be cut on its way

	LastTurn int64 // time of this turn, or between two of the last one
}

// Config is what a shard takes from the configuration of its guest.
type Config struct {
	MaxFlows   int                  // that there may be at once
	MaxSockets int                  // for them and for forwards
	Queues     int                  // queue pairs of the guest
	GatewayMAC [6]byte              // of all of the engine's addresses
	MTU        int                  // of the guest's link at first
	Others     map[ipaddr.Addr]bool // addresses of other guests
}

const (
	// DatagramBurst is how many packets a flow may give to the guest in one turn, ErrorBurst how many errors of a socket are told in one.
	DatagramBurst = 64
	ErrorBurst    = 8
	// BounceLen is what a datagram can have beyond its receive buffer: the most payload that it can carry.
	BounceLen = ipfrag.MaxPayload - netpkt.UDPLen
	// quoteLen is how much of a datagram's payload an ICMP message quotes: what fits 576 bytes (RFC 1812 section 4.3.2.3).
	quoteLen = netpkt.MinMTU4 - 2*(netpkt.IPv4Len+netpkt.UDPLen)
)

// Turn is a shard with what is valid, or of use, during one turn of it: the time, the guest's receive ring, and scratch. Whatever
// works in a turn gets it as an argument, and nobody keeps it: the parts keep the shard, which leads to no turn.
type Turn struct {
	Shard

	Now    int64
	To     hosts.ID // to whom goes what is made
	RX     *netbackend.RXWriter
	RXFull bool // the guest's receive ring had no room for something
	Again  bool // work is left over though nothing is awaited

	Msg      hostsock.Message
	MemInfo  hostsock.MemInfo
	Quote    [quoteLen]byte
	Template [HeadLen]byte
	Pieces   [MaxIovecs]guestmem.Iovec
	Frame    []byte
	bounce   []byte // BounceLen bytes for each message; not touched as long as each datagram fits its receive buffer
	Overflow []byte // payload of datagrams behind one that did not fit its receive buffer
}

// DNSPort is that of the name server.
const DNSPort = 53

// IsQuery tells whether a flow is one to the name server.
func (s *Shard) IsQuery(key *flowtable.Key) bool {
	return key.RemotePort == DNSPort && s.Nets.IsDNS(&key.Remote)
}

// SetUp makes the shard of a new queue pair, of which there is nothing but the zero value. The first pair has the listeners.
func (t *Turn) SetUp(id uint32, cfg Config, of *Pairs, nets *guestnet.Networks) {
	s := &t.Shard
	s.Pair, s.Owner, s.Cfg, s.Pairs, s.Listening = id, id+1, cfg, of, id == 0
	s.Flows, s.Hosts, s.Identity, s.Wheel = of.Flows, of.Hosts, of.identity, timerwheel.New(of.Flows.timers)
	s.MTU, s.OtherGuests, s.Nets = cfg.MTU, cfg.Others, nets
	s.drops.names = counting.NamesOf(&s.Counters)
	t.Frame = make([]byte, slowCopy)
	t.bounce = make([]byte, hostsock.BatchSize*BounceLen)
}

// Join makes the shard one of those of its guest.
func (s *Shard) Join() {
	s.Pairs.shards = append(s.Pairs.shards, s)
	s.Pairs.open.Add(1)
}

// Leave takes note that the queue pair is closed, and reports whether it was the last of its guest.
func (s *Shard) Leave() (last bool) { return s.Pairs.open.Add(-1) == 0 }

// Begin begins a turn at a time of the worker's clock, in nanoseconds.
func (t *Turn) Begin(now int64, rx *netbackend.RXWriter) {
	t.Now, t.To, t.RX, t.RXFull, t.Again = now, hosts.Any, rx, false, false
	t.LastTurn = now
}
