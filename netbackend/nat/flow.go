package nat

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
)

// address is an IP address of either family in 16 bytes, IPv4 mapped (RFC 4291 section 2.5.5.2). Unlike netip.Addr it
// holds no pointer, so that the garbage collector has nothing to scan in a table of flows.
type address [16]byte

func addressFrom(a netip.Addr) address { return a.As16() }

func (a address) netip() netip.Addr { return netip.AddrFrom16(a).Unmap() }

// v4 returns the last four bytes: the address itself if it is an IPv4 one.
func (a *address) v4() []byte { return a[12:16] }

func addressFrom4(b []byte) (a address) {
	a[10], a[11] = 0xff, 0xff
	copy(a[12:], b[:4])
	return a
}

// flowKey names a flow as the guest sees it.
type flowKey struct {
	guest, remote         address
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

func (k *flowKey) remoteAddrPort() netip.AddrPort {
	return netip.AddrPortFrom(k.remote.netip(), k.remotePort)
}

// none is the index of no flow. Indices start at 1, so that a zero value is none as well.
const none = 0

// flow is one record of the table: a TCP connection, a UDP association, or a series of pings. It holds no pointers.
type flow struct {
	key   flowKey
	gen   uint32 // raised each time the record is used anew: an event of an old socket does not match
	index uint32 // of this record

	hashNext uint32 // chain of the bucket
	runNext  uint32 // run list
	timePrev uint32 // chain of the timer wheel
	timeNext uint32
	timeSlot int32 // slot + 1 in the wheel, 0 for none
	deadline int64 // when the flow's timer expires, 0 for never; the wheel may hold it earlier, never later

	begun     int64  // time of the Port's clock
	fromGuest uint64 // bytes that the host's socket took
	toGuest   uint64 // bytes that the guest acknowledged, or was sent as datagrams

	crowdPrev, crowdNext uint32 // list of the crowd

	fd    int32 // host socket, -1 for none
	bits  flowBits
	state flowState
	crowd crowd
	tcp   tcpFlow
	udp   udpFlow
	ping  pingFlow
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
	shared              // the socket is a listener's
	unixSocket          // the socket is a unix one

	ackDue      // TCP: the guest is to be sent an acknowledgement
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
	timing      // TCP: a round trip is being measured
	persisting  // TCP: the timer is the persist timer
)

// flowState is where a flow stands.
type flowState uint8

const (
	stateFree       flowState = iota
	stateUDP                  // datagrams pass
	statePing                 // echo requests and replies pass
	stateConnecting           // TCP: the guest's SYN waits for the host's connect
	stateSynRcvd              // TCP: we answered the guest's SYN
	stateSynSent              // TCP: we sent a SYN to the guest
	stateOpen                 // TCP: data may pass
	stateReset                // TCP: only the reset to the guest is left
	stateDead                 // the flow is over; the run list frees its record
)

// chunkSize is how many records are allocated at once. Chunks do not move.
const chunkSize = 256

// flowTable finds flows by key and by index. It belongs to one thread.
type flowTable struct {
	seed    maphash.Seed // keyed hash: a guest cannot aim at one bucket
	buckets []uint32
	chunks  []*[chunkSize]flow
	free    uint32 // list of unused records, through hashNext
	count   int    // records in use
	live    int    // of which are found by their key
	max     int    // the most that may live
}

// spareRecords is how many records may be in use for flows that are over. A turn ends with none of them, unless the guest
// takes no frames.
const spareRecords = 1024

// full tells whether no other flow may live.
func (t *flowTable) full() bool { return t.live >= t.max }

func newFlowTable(max int) *flowTable {
	return &flowTable{seed: maphash.MakeSeed(), buckets: make([]uint32, 1024), max: max}
}

func (t *flowTable) bucket(k *flowKey) *uint32 {
	b := k.bytes()
	return &t.buckets[maphash.Bytes(t.seed, b[:])&uint64(len(t.buckets)-1)]
}

// at returns the record of index i, which must exist.
func (t *flowTable) at(i uint32) *flow { return &t.chunks[i/chunkSize][i%chunkSize] }

// lookup returns the flow of a key, nil if there is none.
func (t *flowTable) lookup(k *flowKey) *flow {
	for i := *t.bucket(k); i != none; {
		f := t.at(i)
		if f.key == *k {
			return f
		}
		i = f.hashNext
	}
	return nil
}

// byIndex returns the flow that an event names, nil if its generation has passed.
func (t *flowTable) byIndex(i, gen uint32) *flow {
	if i == none || int(i) >= len(t.chunks)*chunkSize {
		return nil
	}
	f := t.at(i)
	if f.state == stateFree || f.state == stateDead || f.gen != gen {
		return nil
	}
	return f
}

// insert makes a record for k, which must not be in the table. It returns nil if there is no room.
func (t *flowTable) insert(k *flowKey) *flow {
	if t.full() || t.count >= t.max+spareRecords {
		return nil
	}
	if t.free == none {
		t.grow()
	}
	if t.count >= 2*len(t.buckets) {
		t.rehash()
	}
	f := t.at(t.free)
	t.free = f.hashNext
	*f = flow{key: *k, gen: (f.gen + 1) & generationMask, index: f.index, fd: -1}
	b := t.bucket(k)
	f.hashNext, *b = *b, f.index
	t.count++
	t.live++
	return f
}

// unlink takes f's key out of the table; the record stays until release.
func (t *flowTable) unlink(f *flow) {
	at := t.bucket(&f.key)
	for *at != f.index {
		at = &t.at(*at).hashNext
	}
	*at = f.hashNext
	f.state = stateDead
	t.live--
}

// release frees the record of an unlinked flow. Its index may be used again from now on, with another generation.
func (t *flowTable) release(f *flow) {
	f.state = stateFree
	f.hashNext, t.free = t.free, f.index
	t.count--
}

func (t *flowTable) grow() {
	base := uint32(len(t.chunks) * chunkSize)
	c := new([chunkSize]flow)
	t.chunks = append(t.chunks, c)
	for i := chunkSize - 1; i >= 0; i-- {
		f := &c[i]
		f.index = base + uint32(i)
		if f.index == none {
			continue
		}
		f.hashNext, t.free = t.free, f.index
	}
}

func (t *flowTable) rehash() {
	old := t.buckets
	t.buckets = make([]uint32, 4*len(old))
	for _, i := range old {
		for i != none {
			f := t.at(i)
			next := f.hashNext
			b := t.bucket(&f.key)
			f.hashNext, *b = *b, i
			i = next
		}
	}
}

// each calls fn for every live flow. fn may unlink the flow that it is called for.
func (t *flowTable) each(fn func(*flow)) {
	for _, c := range t.chunks {
		for i := range c {
			if s := c[i].state; s != stateFree && s != stateDead {
				fn(&c[i])
			}
		}
	}
}
