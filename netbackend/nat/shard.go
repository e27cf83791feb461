package nat

import (
	"sync/atomic"

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
)

// shard is what a queue pair has of its guest whatever the protocol: its flows with their timers and lists, its share of limits,
// and the way to the guest. It knows no protocol; what it needs of those it asks by its hooks.
type shard struct {
	id        uint32 // of the queue pair
	me        uint32 // its name as an owner of flows
	pairs     *pairs
	mailbox   mailbox
	turns     atomic.Uint64 // odd during a turn
	retired   retirement
	listening bool // the forwards' listeners are in this queue pair's epoll set

	cfg      shardConfig
	worker   netbackend.Worker
	hooks    hooks
	flows    *flowTable
	wheel    timerwheel.Wheel
	run      runList
	starved  runList // flows that wait for receive buffers of the guest
	classes  [classes]flowList
	reports  limits.Reports
	counters stats.Counters
	memory   memoryLook

	headerLen int  // of the virtio-net header, as negotiated
	guestCsum bool // the guest finishes checksums (VIRTIO_NET_F_GUEST_CSUM)
	features  uint64
	connected bool
	receiving bool // the guest's receive ring runs
	mtu       int
	gone      absence // of the front end or the driver, which may come back
	reset     bool    // the driver has reset its device, and none has begun since

	hosts    *hosts.Table         // of all queue pairs
	from     hosts.ID             // the host whose frame is handled, or was last
	found    uint32               // of hosts.Table.Found, when waiting connections were looked at last
	followed uint32               // of hosts.Table.Moved, when followHosts looked last
	followAt int64                // it does not look again before
	nets     *guestnet.Networks   // the guest's, which do not change
	others   map[ipaddr.Addr]bool // addresses of other guests, which this one must not use
	identity idHash
	packetID uint16 // of the last packet to the guest that may be cut on its way

	lastTurn int64 // time of this turn, or between two of the last one
}

// shardConfig is what a shard takes from the configuration of its guest.
type shardConfig struct {
	MaxFlows   int                  // that there may be at once
	MaxSockets int                  // for them and for forwards
	Queues     int                  // queue pairs of the guest
	GatewayMAC [6]byte              // of all of the engine's addresses
	MTU        int                  // of the guest's link at first
	Others     map[ipaddr.Addr]bool // addresses of other guests
}

const (
	// datagramBurst is how many packets a flow may give to the guest in one turn, errorBurst how many errors of a socket are told in one.
	datagramBurst = 64
	errorBurst    = 8
	// bounceLen is what a datagram can have beyond its receive buffer: the most payload that it can carry.
	bounceLen = ipfrag.MaxPayload - netpkt.UDPLen
	// quoteLen is how much of a datagram's payload an ICMP message quotes: what fits 576 bytes (RFC 1812 section 4.3.2.3).
	quoteLen = netpkt.MinMTU4 - 2*(netpkt.IPv4Len+netpkt.UDPLen)
)

// turn is a shard with what is valid, or of use, during one turn of it: the time, the guest's receive ring, and scratch. Whatever
// works in a turn gets it as an argument, and nobody keeps it: the parts keep the shard, which leads to no turn.
type turn struct {
	shard

	now    int64
	to     hosts.ID // to whom goes what is made
	rx     *netbackend.RXWriter
	rxFull bool // the guest's receive ring had no room for something
	again  bool // work is left over though nothing is awaited

	msg      hostsock.Message
	mem      hostsock.MemInfo
	quote    [quoteLen]byte
	template [headCopy]byte
	pieces   [maxIovecs]guestmem.Iovec
	slow     []byte
	bounce   []byte // bounceLen bytes for each message; not touched as long as each datagram fits its receive buffer
	overflow []byte // payload of datagrams behind one that did not fit its receive buffer
}

// dnsPort is that of the name server.
const dnsPort = 53

// isQuery tells whether a flow is one to the name server.
func (s *shard) isQuery(key *flowtable.Key) bool {
	return key.RemotePort == dnsPort && s.nets.IsDNS(&key.Remote)
}

// setUp makes the shard of a new queue pair, of which there is nothing but the zero value. The first pair has the listeners.
func (t *turn) setUp(id uint32, cfg shardConfig, of *pairs, nets *guestnet.Networks) {
	s := &t.shard
	s.id, s.me, s.cfg, s.pairs, s.listening = id, id+1, cfg, of, id == 0
	s.flows, s.hosts, s.identity, s.wheel = of.flows, of.hosts, of.identity, timerwheel.New(of.flows.timers)
	s.mtu, s.others, s.nets = cfg.MTU, cfg.Others, nets
	t.slow = make([]byte, slowCopy)
	t.bounce = make([]byte, hostsock.BatchSize*bounceLen)
}

// join makes the shard one of those of its guest.
func (s *shard) join() {
	s.pairs.shards = append(s.pairs.shards, s)
	s.pairs.open.Add(1)
}

// leave takes note that the queue pair is closed, and reports whether it was the last of its guest.
func (s *shard) leave() (last bool) { return s.pairs.open.Add(-1) == 0 }

// begin begins a turn.
func (t *turn) begin(now int64, rx *netbackend.RXWriter) {
	t.now, t.to, t.rx, t.rxFull, t.again = now, hosts.Any, rx, false, false
	t.lastTurn = now
}
