package quichello

import (
	"bytes"
	"errors"
	"slices"

	"github.com/vringnet/vring/netbackend/nat/internal/tlshello"
)

// MaxLen is how long the handshake messages of a client's Initial packets may be together, in bytes.
const MaxLen = tlshello.MaxLen

// maxRanges is how many pieces of a hello may be there with something missing between them. Clients that shuffle them have some ten.
const maxRanges = 64

// Reasons why a datagram is none whose server name can be relied on, beside those of package tlshello.
var (
	ErrNotQUIC   = errors.New("it is no packet of QUIC")
	ErrVersion   = errors.New("its version of QUIC is neither 1 nor 2")
	ErrMalformed = errors.New("its packet of QUIC is malformed")
	ErrKeys      = errors.New("its Initial packet of QUIC belongs to no connection that began here")
	ErrConflict  = errors.New("its Initial packets of QUIC contradict each other")
	ErrTooLong   = errors.New("its Initial packets of QUIC hold more than 16 KiB")
)

// Content is what is in a datagram.
type Content uint8

// What can be in one.
const (
	Other  Content = iota // no Initial packet: early data, or packets of a connection whose hello was there before
	Part                  // a part of a hello, which is not complete yet
	Hello                 // the hello is complete
	Repeat                // an Initial packet of a connection whose hello is complete, with nothing new, such as an acknowledgement
)

// Reader follows what a client sends on one flow. The zero value stands at its beginning. It is not safe for concurrent use.
type Reader struct {
	begun       int    // connections
	destination []byte // of the packet that the connection began with
	keys        [2]*keys
	expected    uint64 // packet number

	data  []byte // of CRYPTO frames; what is in no range is not there yet
	have  []span // in order, neither overlapping nor touching each other
	begin int    // of the message that is not complete yet
	hello tlshello.Hello

	failed error // why nothing of the connection may go on
}

// span is a part of a stream: the bytes from begin up to end.
type span struct{ begin, end int }

// Begun returns how many connections have begun. What was there of one before is forgotten with the next.
func (r *Reader) Begun() int { return r.begun }

// Destination returns the identifier that the connection's keys come from, nil before the first. It is not to be changed.
func (r *Reader) Destination() []byte { return r.destination }

// Read looks at a datagram of the client's. If it completes a hello, that is returned. After an error the datagram is not to go on, while
// those of another connection may. The Reader keeps nothing of the datagram but the hello's bytes. A datagram has Initial packets of one
// connection only.
func (r *Reader) Read(datagram []byte) (c Content, h tlshello.Hello, err error) {
	var to []byte
	connection := 0 // that the Initial packets of the datagram belong to
	for rest, begun := datagram, false; len(rest) > 0 && isLong(rest); begun = true {
		var p packet
		if p, rest, err = cutPacket(rest); err != nil {
			return Other, h, err
		}
		if begun && !bytes.Equal(p.destination, to) {
			return Other, h, ErrMalformed // RFC 9000 section 12.2
		}
		to = p.destination
		if p.kind != kindInitial {
			continue
		}
		of, err := r.initial(&p)
		switch {
		case err != nil:
		case connection != 0 && connection != r.begun:
			err = r.fail(ErrMalformed)
		case of == Hello && c == Hello && h != r.hello:
			err = r.fail(ErrConflict)
		}
		connection = r.begun
		if err != nil {
			return Other, tlshello.Hello{}, err
		}
		c = merge(c, of)
		if of == Hello {
			h = r.hello
		}
	}
	return c, h, nil
}

// Kind is what a datagram is, by what everybody can read of its headers.
type Kind struct {
	Long      bool // it begins with a long header: all packets of a connection do before its keys are there (RFC 8999 section 5.1)
	Initial   bool // it has an Initial packet
	Handshake bool // it has a Handshake packet: its client sends no Initial packets any more (RFC 9001 section 4.9.1)
}

// KindOf returns what a datagram is. The error is that it has a long header and cannot be read.
func KindOf(datagram []byte) (k Kind, err error) {
	for rest := datagram; len(rest) > 0 && isLong(rest); {
		k.Long = true
		var p packet
		if p, rest, err = cutPacket(rest); err != nil {
			return k, err
		}
		k.Initial = k.Initial || p.kind == kindInitial
		k.Handshake = k.Handshake || p.kind == kindHandshake
	}
	return k, nil
}

// merge returns what is in packets of one datagram together.
func merge(a, b Content) Content {
	for _, c := range []Content{Hello, Part, Repeat} {
		if a == c || b == c {
			return c
		}
	}
	return Other
}

// fail notes that nothing of the connection may go on any more.
func (r *Reader) fail(err error) error {
	r.failed = err
	return err
}

// initial takes an Initial packet.
func (r *Reader) initial(p *packet) (Content, error) {
	if frames, ok := r.open(p); ok {
		return r.take(frames)
	}
	other := Reader{begun: r.begun + 1, destination: bytes.Clone(p.destination)}
	frames, ok := other.open(p)
	if !ok {
		return Other, ErrKeys
	}
	*r = other
	return r.take(frames)
}

// open removes the protection of a packet of the connection. A server may answer by another version, which the client then uses as well
// (RFC 9369 section 4.1); the identifier that keys come from stays the first.
func (r *Reader) open(p *packet) (frames []byte, ok bool) {
	if r.destination == nil {
		return nil, false
	}
	i := 0
	if p.version == version2 {
		i = 1
	}
	if r.keys[i] == nil {
		k, err := newKeys(p.version, r.destination)
		if err != nil {
			return nil, false
		}
		r.keys[i] = k
	}
	frames, number, ok := r.keys[i].open(p.whole, p.number, r.expected)
	if ok {
		r.expected = max(r.expected, number+1)
	}
	return frames, ok
}

// take takes the frames of a packet.
func (r *Reader) take(frames []byte) (Content, error) {
	if r.failed != nil {
		return Other, r.failed
	}
	if err := eachCrypto(frames, r.add); err != nil {
		return Other, r.fail(err)
	}
	return r.messages()
}

// add takes data of the stream of CRYPTO frames. Those that were there before must be the same.
func (r *Reader) add(offset uint64, data []byte) error {
	if offset > MaxLen || offset+uint64(len(data)) > MaxLen {
		return ErrTooLong
	}
	begin, end := int(offset), int(offset)+len(data)
	for _, s := range r.have {
		from, to := max(begin, s.begin), min(end, s.end)
		if from < to && !bytes.Equal(r.data[from:to], data[from-begin:to-begin]) {
			return ErrConflict
		}
	}
	if end > len(r.data) {
		r.data = append(r.data, make([]byte, end-len(r.data))...)
	}
	copy(r.data[begin:], data)
	if r.have = insert(r.have, span{begin, end}); len(r.have) > maxRanges {
		return ErrTooLong
	}
	return nil
}

// insert adds a span, which swallows those that it overlaps or touches.
func insert(all []span, s span) []span {
	from := 0
	for from < len(all) && all[from].end < s.begin {
		from++
	}
	to := from
	for ; to < len(all) && all[to].begin <= s.end; to++ {
		s.begin, s.end = min(s.begin, all[to].begin), max(s.end, all[to].end)
	}
	return slices.Replace(all, from, to, s)
}

// messages reads the handshake messages that are due and complete: the hello, and the one that a server has asked for behind it.
func (r *Reader) messages() (c Content, err error) {
	for c = Repeat; ; c = Hello {
		n, err := r.messageLen()
		if err != nil {
			return Other, r.fail(err)
		}
		if n == 0 {
			break
		}
		h, err := tlshello.Parse(r.data[r.begin : r.begin+n])
		if err == nil && c == Hello && h != r.hello {
			err = ErrConflict
		}
		if err != nil {
			return Other, r.fail(err)
		}
		r.hello = h
		r.begin += n
	}
	if c == Repeat && !r.isWhole() {
		return Part, nil
	}
	return c, nil
}

// messageLen returns the length of the next message, 0 if it is not complete.
func (r *Reader) messageLen() (n int, err error) {
	const header = 4
	if len(r.have) == 0 || r.have[0].begin > 0 || r.have[0].end < r.begin+header {
		return 0, nil
	}
	m := r.data[r.begin:r.have[0].end]
	n = header + int(m[1])<<16 + int(m[2])<<8 + int(m[3])
	if r.begin+n > MaxLen {
		return 0, ErrTooLong
	}
	if n > len(m) {
		return 0, nil
	}
	return n, nil
}

// isWhole reports whether there is a hello, and no part of another one.
func (r *Reader) isWhole() bool {
	return r.begin > 0 && len(r.have) == 1 && r.have[0].end == r.begin
}
