package nat

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// flowKey names a flow as the guest sees it.
type flowKey struct {
	guest, remote         ipaddr.Addr
	guestPort, remotePort uint16
	proto                 uint8
}

// bytes is the key in a fixed form, for hashing.
func (k *flowKey) bytes() (b [37]byte) {
	copy(b[0:], k.guest[:])
	copy(b[16:], k.remote[:])
	binary.BigEndian.PutUint16(b[32:], k.guestPort)
	binary.BigEndian.PutUint16(b[34:], k.remotePort)
	b[36] = k.proto
	return b
}

func (k *flowKey) guestSide() ipaddr.Endpoint {
	return ipaddr.Endpoint{Addr: k.guest, Port: k.guestPort}
}

func (k *flowKey) remoteAddrPort() netip.AddrPort {
	return netip.AddrPortFrom(k.remote.Netip(), k.remotePort)
}

// none is the index of no flow. Indices start at 1, so that a zero value is none as well.
const none = 0

// flow is one record of the table: a TCP connection, a UDP association, or a series of pings. It holds no pointers.
//
// All of it belongs to its owner's thread, with these exceptions: hashNext belongs to the table; key, udp.peer and
// udp.via do not change from insert to the end of the grace period, and any queue pair may read them during a turn in
// which lookup gave it the record.
type flow struct {
	key   flowKey
	ipLen uint8  // of the IP header in front of what goes to the guest
	host  hostID // of the guest, anyHost if it is not known yet
	gen   uint32 // raised each time the record is used anew: an event of an old socket does not match
	index uint32 // of this record

	hashNext atomic.Uint32 // chain of the bucket; after its end, list of free records
	runNext  uint32        // run list
	timePrev uint32        // chain of the timer wheel
	timeNext uint32
	timeSlot int32 // slot + 1 in the wheel, 0 for none
	fd       int32 // host socket, -1 for none
	deadline int64 // when the flow's timer expires, 0 for never; the wheel may hold it earlier, never later

	begun     int64  // time of the Port's clock
	fromGuest uint64 // bytes that the host's socket took
	toGuest   uint64 // bytes that the guest acknowledged, or was sent as datagrams

	crowdPrev, crowdNext uint32 // list of the crowd

	bits    flowBits
	to      uint8 // the queue pair that it is leaving for
	state   flowState
	crowd   crowd
	cause   endCause // TCP: why the host's side is dead
	proxied proxied
	tcp     tcpFlow
	udp     udpFlow
	ping    pingFlow
	fullMSS uint16 // TCP: what tcp.mss is where the path is as wide as the guest's link; see fitPath
	news    uint16 // UDP, ping: what the number of route.ChangeCount was when its socket's source address was right
}

// flowBits is what a flow has on its mind.
type flowBits uint32

const (
	onRunList  flowBits = 1 << iota
	readable            // the host socket may have more; only EAGAIN clears it
	writable            // the host socket said that it can be written
	hungUp              // EPOLLRDHUP: the host's FIN has arrived, though perhaps unread data stand before it
	failed              // EPOLLERR: the host's side is dead, though perhaps unread data stand before its end
	inbound             // the host began it, through a forward
	shared              // the socket is that of a forward or a mapping
	unixSocket          // the socket is a unix one
	leaving             // the flow goes to another queue pair

	ackDue      // TCP: the guest is to be sent an acknowledgement
	ackDelayed  // TCP: it is, unless an answer carries it in time; the timer is that of the delay
	unanswered  // TCP: the guest has sent data, and nothing was sent to it since
	synDue      // TCP: the guest is to be sent our SYN or SYN-ACK (again)
	rstDue      // TCP: the guest is to be sent a reset; nothing else is left of the flow
	resendDue   // TCP: the oldest unacknowledged segment is to be sent again
	probeDue    // TCP: the guest's closed window is to be probed
	hostEOF     // TCP: all of the host's stream was read
	finSent     // TCP: our FIN was sent, sndMax counts it
	finAcked    // TCP: and acknowledged
	guestFIN    // TCP: the guest's FIN was passed on
	stalled     // TCP: the advertised window is closed until the host socket can be written
	refused     // TCP: bytes that were within the window did not fit the socket
	recovering  // TCP: fast recovery until recover is acknowledged
	hostReset   // TCP: the host's side is dead
	guestScales // TCP: window scaling is in use
	guestSACKs  // TCP: the guest may send selective acknowledgements
	guestTimes  // TCP: segments carry timestamps
	timedOut    // TCP: the oldest segment was repeated by the timer; the next acknowledgement tells what is missing
	timing      // TCP: a round trip is being measured
	persisting  // TCP: the timer is the persist timer
	bulk        // TCP: the host has filled the largest frame lately

	isNew // the guest began it, and nobody has answered yet; see newFlows
)

// flowState is where a flow stands.
type flowState uint8

const (
	stateFree       flowState = iota
	stateUDP                  // datagrams pass
	statePing                 // echo requests and replies pass
	stateConnecting           // TCP: the guest's SYN waits for the host's connect
	stateSynRcvd              // TCP: we answered the guest's SYN
	stateHeader               // TCP: a forward took it, and its PROXY header is awaited; the guest knows nothing of it
	stateSynSent              // TCP: we sent a SYN to the guest
	stateOpen                 // TCP: data may pass
	stateReset                // TCP: only the reset to the guest is left
	stateDead                 // the flow is over; the run list frees its record
)

// chunkSize is how many records are allocated at once. Chunks do not move.
const chunkSize = 256

// chunk is a number of records, and to whom each belongs.
type chunk struct {
	flows  [chunkSize]flow
	owners [chunkSize]atomic.Uint32
	memory [chunkSize]socketMemory // of the flows' own sockets
}

// Who a record belongs to: a queue pair, counted from 1; nobody; or nobody yet, on its way to a queue pair.
const (
	nobody  = 0
	transit = 1 << 16
)

// flowTable finds flows by key and by index. It belongs to a guest, whose queue pairs share it.
//
// lookup takes no lock. What it may find while others change the table is explained at [Port.find].
type flowTable struct {
	seed    maphash.Seed // keyed hash: a guest cannot aim at one bucket
	buckets []atomic.Uint32
	chunks  []atomic.Pointer[chunk]
	max     int // the most that may live

	live    atomic.Int32 // flows that are found by their key
	sockets atomic.Int32 // sockets of flows, and of mappings that have flows

	mu    sync.Mutex // guards what follows, and all changes of buckets and chains
	free  uint32     // list of unused records, through hashNext
	grown int        // chunks that exist
	count int        // records in use
}

// spareRecords is how many records may be in use for flows that are over. A turn ends with none of them, unless the guest
// takes no frames.
const spareRecords = 1024

// full tells whether no other flow may live.
func (t *flowTable) full() bool { return int(t.live.Load()) >= t.max }

// newFlowTable makes an empty table. Its buckets are as many as it will ever need, for those who look into it take no
// lock: four to eight bytes for each flow that there may be.
func newFlowTable(max int) *flowTable {
	return &flowTable{
		seed: maphash.MakeSeed(), max: max,
		buckets: make([]atomic.Uint32, 1<<bits.Len(uint(max))),
		chunks:  make([]atomic.Pointer[chunk], (max+spareRecords)/chunkSize+2),
	}
}

func (t *flowTable) bucket(k *flowKey) *atomic.Uint32 {
	b := k.bytes()
	return &t.buckets[maphash.Bytes(t.seed, b[:])&uint64(len(t.buckets)-1)]
}

// at returns the record of index i, which must exist, and owner its owner.
func (t *flowTable) at(i uint32) *flow { return &t.chunks[i/chunkSize].Load().flows[i%chunkSize] }

func (t *flowTable) owner(i uint32) *atomic.Uint32 {
	return &t.chunks[i/chunkSize].Load().owners[i%chunkSize]
}

// memory returns what is known of the buffers of a flow's own socket. For its owner.
func (t *flowTable) memory(i uint32) *socketMemory {
	return &t.chunks[i/chunkSize].Load().memory[i%chunkSize]
}

// lookup returns the flow of a key, nil if there is none. Any queue pair may call it during a turn.
func (t *flowTable) lookup(k *flowKey) *flow {
	for i := t.bucket(k).Load(); i != none; {
		f := t.at(i)
		if f.key == *k {
			return f
		}
		i = f.hashNext.Load()
	}
	return nil
}

// byIndex returns the flow of owner that an event names, nil if it is another's, or its generation has passed. For owner.
func (t *flowTable) byIndex(i, gen, owner uint32) *flow {
	if i == none || int(i/chunkSize) >= len(t.chunks) || t.chunks[i/chunkSize].Load() == nil || t.owner(i).Load() != owner {
		return nil
	}
	f := t.at(i)
	if f.state == stateFree || f.state == stateDead || f.gen != gen {
		return nil
	}
	return f
}

// insert makes a record for k that belongs to owner, with what others may read of it. It returns nil if there is no room, or if
// another queue pair has made one in the meantime, which is elsewhere.
func (t *flowTable) insert(k *flowKey, owner uint32, udp udpFlow) (f *flow, at where) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lookup(k) != nil {
		return nil, elsewhere
	}
	if t.full() || t.count >= t.max+spareRecords {
		return nil, nowhere
	}
	if t.free == none {
		t.grow()
	}
	f = t.at(t.free)
	t.free = f.hashNext.Load()
	*f = flow{key: *k, gen: (f.gen + 1) & generationMask, index: f.index, fd: -1, udp: udp, ipLen: uint8(k.guest.HeaderLen())}
	t.owner(f.index).Store(owner)
	b := t.bucket(k)
	f.hashNext.Store(b.Load())
	b.Store(f.index)
	t.count++
	t.live.Add(1)
	return f, here
}

// unlink takes f's key out of the table; the record stays until release. For its owner.
func (t *flowTable) unlink(f *flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.bucket(&f.key)
	for at.Load() != f.index {
		at = &t.at(at.Load()).hashNext
	}
	at.Store(f.hashNext.Load()) // who stands at f just now goes on from there
	f.state = stateDead
	t.live.Add(-1)
}

// release frees the record of an unlinked flow, which no lookup can have found any more. Its index may be used again from
// now on, with another generation.
func (t *flowTable) release(f *flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f.state = stateFree
	t.owner(f.index).Store(nobody)
	f.hashNext.Store(t.free)
	t.free = f.index
	t.count--
}

func (t *flowTable) grow() {
	base := uint32(t.grown * chunkSize)
	c := new(chunk)
	for i := chunkSize - 1; i >= 0; i-- {
		f := &c.flows[i]
		f.index = base + uint32(i)
		if f.index == none {
			continue
		}
		f.hashNext.Store(t.free)
		t.free = f.index
	}
	t.chunks[t.grown].Store(c)
	t.grown++
}

// each calls fn for every live flow of owner, on whose thread. fn may unlink the flow that it is called for.
func (t *flowTable) each(owner uint32, fn func(*flow)) {
	for i := range t.chunks {
		if !t.eachOf(i, owner, fn) {
			return
		}
	}
}

// eachOf does what each does for the flows of a chunk, and tells whether there is one with that index.
func (t *flowTable) eachOf(i int, owner uint32, fn func(*flow)) bool {
	if i >= len(t.chunks) {
		return false
	}
	c := t.chunks[i].Load()
	if c == nil {
		return false
	}
	for j := range c.flows {
		if c.owners[j].Load() != owner {
			continue
		}
		if s := c.flows[j].state; s != stateFree && s != stateDead {
			fn(&c.flows[j])
		}
	}
	return true
}
