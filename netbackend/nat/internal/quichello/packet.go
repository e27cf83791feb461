package quichello

import "encoding/binary"

// kind is the type of a packet with a long header.
type kind uint8

const (
	kindInitial kind = iota
	kindEarly        // 0-RTT
	kindHandshake
	kindRetry
)

// packet is one of a datagram.
type packet struct {
	version     uint32
	kind        kind
	destination []byte // connection identifier
	number      int    // where the packet number stands
	whole       []byte
}

const maxIdentifier = 20 // RFC 9000 section 17.2

// isLong reports whether a packet has a long header.
func isLong(b []byte) bool { return b[0]&0x80 != 0 }

// cutPacket cuts off the packet with a long header that a datagram begins with. Whether the QUIC bit is set does not matter: clients may
// clear it (RFC 9287).
func cutPacket(b []byte) (p packet, rest []byte, err error) {
	if len(b) < 7 {
		return p, nil, ErrNotQUIC
	}
	p.version = binary.BigEndian.Uint32(b[1:])
	if p.version != version1 && p.version != version2 {
		return p, nil, ErrVersion
	}
	p.kind = kind(b[0] >> 4 & 3)
	if p.version == version2 {
		p.kind = (p.kind + 3) & 3 // RFC 9369 section 3.2
	}
	at := 5
	if p.destination, at, err = identifier(b, at); err != nil {
		return p, nil, err
	}
	if _, at, err = identifier(b, at); err != nil {
		return p, nil, err
	}
	if p.kind == kindRetry { // only servers send one
		return p, nil, ErrMalformed
	}
	return p.measure(b, at)
}

// identifier reads a connection identifier at a place.
func identifier(b []byte, at int) (id []byte, next int, err error) {
	if at >= len(b) {
		return nil, 0, ErrMalformed
	}
	n := int(b[at])
	next = at + 1 + n
	if n > maxIdentifier || next > len(b) {
		return nil, 0, ErrMalformed
	}
	return b[at+1 : next], next, nil
}

// measure reads what follows the identifiers: a token of Initial packets, and the length of the rest.
func (p packet) measure(b []byte, at int) (packet, []byte, error) {
	r := reader{b: b, at: at}
	if p.kind == kindInitial {
		r.skip(r.varint())
	}
	n := r.varint()
	if r.failed || n > uint64(len(b)-r.at) {
		return p, nil, ErrMalformed
	}
	p.number = r.at
	end := r.at + int(n)
	p.whole = b[:end]
	return p, b[end:], nil
}

// reader reads numbers of variable length (RFC 9000 section 16). Once something was not there it has failed, and reads zeros.
type reader struct {
	b      []byte
	at     int
	failed bool
}

// varint reads a number.
func (r *reader) varint() (v uint64) {
	if r.at >= len(r.b) {
		r.failed = true
		return 0
	}
	n := 1 << (r.b[r.at] >> 6)
	if r.at+n > len(r.b) {
		r.failed = true
		return 0
	}
	v = uint64(r.b[r.at] & 0x3f)
	for _, c := range r.b[r.at+1 : r.at+n] {
		v = v<<8 | uint64(c)
	}
	r.at += n
	return v
}

// skip passes over n bytes.
func (r *reader) skip(n uint64) { r.take(n) }

// take returns the next n bytes.
func (r *reader) take(n uint64) []byte {
	if r.failed || n > uint64(len(r.b)-r.at) {
		r.failed = true
		return nil
	}
	b := r.b[r.at : r.at+int(n)]
	r.at += int(n)
	return b
}

// eachCrypto calls fn for the data of each CRYPTO frame. The error is that other frames than those of Initial packets are there (RFC 9000
// section 17.2.2), or fn's.
func eachCrypto(frames []byte, fn func(offset uint64, data []byte) error) error {
	r := reader{b: frames}
	for r.at < len(frames) && !r.failed {
		switch kind := r.varint(); kind {
		case 0x00, 0x01: // PADDING, PING
		case 0x02, 0x03:
			r.ack(kind == 0x03)
		case 0x06:
			offset := r.varint()
			data := r.take(r.varint())
			if r.failed {
				return ErrMalformed
			}
			if err := fn(offset, data); err != nil {
				return err
			}
		case 0x1c: // CONNECTION_CLOSE
			r.varint()
			r.varint()
			r.skip(r.varint())
		default:
			return ErrMalformed
		}
	}
	if r.failed {
		return ErrMalformed
	}
	return nil
}

// ack passes over an ACK frame.
func (r *reader) ack(marks bool) {
	r.varint() // largest
	r.varint() // delay
	ranges := r.varint()
	r.varint() // first range
	for ; ranges > 0 && !r.failed; ranges-- {
		r.varint()
		r.varint()
	}
	if marks {
		r.varint()
		r.varint()
		r.varint()
	}
}
