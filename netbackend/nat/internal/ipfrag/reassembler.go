package ipfrag

import "github.com/vringnet/vring/netbackend/nat/internal/ipaddr"

const (
	// Unit is the number of bytes in which the offsets of fragments are counted.
	Unit = 8
	// MaxPackets is how many packets may be incomplete at once. Senders send the fragments of one packet after another, so few
	// are needed. Their buffers hold about 1 MiB.
	MaxPackets = 16
	// MaxPayload is the length of the longest packet, without its IP header.
	MaxPayload = 65535
	// Timeout is how long the rest of a packet is awaited, in nanoseconds.
	Timeout = int64(30e9)
)

// Key names the packet that a fragment belongs to.
type Key struct {
	Src, Dst ipaddr.Addr
	ID       uint32
	Proto    uint8
}

// Reassembler holds the packets of which fragments are missing. It allocates when it is used for the first time. Not safe for
// concurrent use.
type Reassembler struct {
	// Headroom is the room in front of a packet, in bytes, for headers of its owner's.
	Headroom int

	packets []Packet
	next    int64 // not later than the earliest deadline; 0 if nothing is kept
}

// Find returns the packet of a key. If there is none yet, it begins one, instead of the oldest if there is no room. evicted is how
// many fragments were dropped with that. The packet is the Reassembler's, and valid until the next call of Find or Expire.
func (r *Reassembler) Find(key *Key, now int64) (p *Packet, evicted int) {
	if r.packets == nil {
		r.packets = make([]Packet, MaxPackets)
	}
	p = &r.packets[0]
	for i := range r.packets {
		q := &r.packets[i]
		if q.deadline != 0 && q.Key == *key {
			return q, 0
		}
		if q.deadline < p.deadline {
			p = q
		}
	}
	evicted = p.fragments
	buf := p.buf
	if buf == nil {
		buf = make([]byte, r.Headroom+MaxPayload)
	}
	*p = Packet{Key: *key, deadline: now + Timeout, headroom: r.Headroom, buf: buf}
	if r.next == 0 {
		r.next = p.deadline
	}
	return p, evicted
}

// Forget drops all packets, and gives their memory back.
func (r *Reassembler) Forget() { r.packets, r.next = nil, 0 }

// Next returns when Expire has something to do, 0 for never.
func (r *Reassembler) Next() int64 { return r.next }

// Due reports whether Expire has something to do at now.
func (r *Reassembler) Due(now int64) bool { return r.next != 0 && now >= r.next }

// Expire gives up the packets whose time is over at now. It calls expired for each before, and returns how many fragments were
// dropped.
func (r *Reassembler) Expire(now int64, expired func(*Packet)) (dropped int) {
	r.next = 0
	for i := range r.packets {
		p := &r.packets[i]
		if p.deadline != 0 && p.deadline <= now {
			expired(p)
			dropped += p.fragments
			p.Release()
		}
		if p.deadline != 0 && (r.next == 0 || p.deadline < r.next) {
			r.next = p.deadline
		}
	}
	return dropped
}

// Packet is a packet that is being put together. No two of its fragments overlap.
type Packet struct {
	Key
	// HopLimit and TrafficClass are those of the first fragment, and Tag is what the owner notes of it, such as who sent it.
	HopLimit, TrafficClass uint8
	Tag                    uint8

	deadline int64 // when it is given up; 0 if the record is free
	invalid  bool  // its fragments contradict each other: those that are still to come are dropped too
	headroom int
	progress
	last struct { // what Undo takes back
		start, end int
		before     progress
	}
	seen [(MaxPayload/Unit + 64) / 64]uint64
	buf  []byte // headroom, then transport header and payload
}

// progress is how far a packet has come.
type progress struct {
	fragments int // that were taken
	bytes     int // in them
	end       int // where the furthest of them ends
	total     int // length of the whole, 0 until the last fragment has come
}

// Add takes the fragment with the n bytes from start on. more tells that others follow it. The caller then copies its bytes to Bytes.
// If it does not go with the others, the packet is invalid from now on, and dropped fragments are lost, this one included. A byte
// that comes for the second time does not, even if it is the same: no wire between doubles fragments (RFC 5722 section 4).
func (p *Packet) Add(start, n int, more bool) (dropped int, ok bool) {
	before := p.progress
	if p.invalid || !p.fits(start+n, more) || !p.mark(start, start+n) {
		p.invalid = true
		dropped = p.fragments + 1
		p.fragments = 0
		return dropped, false
	}
	p.last.start, p.last.end, p.last.before = start, start+n, before
	if !more {
		p.total = start + n
	}
	p.fragments++
	p.bytes += n
	p.end = max(p.end, start+n)
	return 0, true
}

// fits reports whether a fragment that ends at end goes with where the packet ends.
func (p *Packet) fits(end int, more bool) bool {
	if !more {
		return p.total == 0 && end >= p.end
	}
	return p.total == 0 || end <= p.total
}

// mark notes which units a fragment has, and reports whether none of them had come before.
func (p *Packet) mark(start, end int) bool {
	for unit := start / Unit; unit*Unit < end; unit++ {
		word, bit := &p.seen[unit/64], uint64(1)<<(unit%64)
		if *word&bit != 0 {
			return false
		}
		*word |= bit
	}
	return true
}

// Undo forgets the fragment that Add has taken last: it comes again.
func (p *Packet) Undo() {
	for unit := p.last.start / Unit; unit*Unit < p.last.end; unit++ {
		p.seen[unit/64] &^= 1 << (unit % 64)
	}
	p.progress = p.last.before
}

// Bytes returns the place of n bytes from start on.
func (p *Packet) Bytes(start, n int) []byte {
	at := p.headroom + start
	return p.buf[at : at+n]
}

// Complete reports whether all fragments have come.
func (p *Packet) Complete() bool { return p.bytes == p.total }

// Len returns how many bytes of the packet have come. It is that of the whole when it is complete.
func (p *Packet) Len() int { return p.bytes }

// Buffer returns the headroom, and behind it the complete packet without its IP header.
func (p *Packet) Buffer() []byte { return p.buf[:p.headroom+p.total] }

// KnowsBeginning reports whether the first fragment has come, and fits to the others.
func (p *Packet) KnowsBeginning() bool { return !p.invalid && p.fragments > 0 && p.seen[0]&1 != 0 }

// Release frees the record.
func (p *Packet) Release() { p.fragments, p.deadline = 0, 0 }
