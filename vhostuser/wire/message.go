package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Sizes and limits, in bytes where not told otherwise.
const (
	HeaderSize = 12
	// MaxPayload is the largest payload that is read at all. It leaves room for the messages of later protocol versions,
	// which are skipped; the largest message that is understood has 264 bytes.
	MaxPayload = 4096
	// MaxRegions is how many memory regions a table has at most, and how many descriptors a message carries at most
	// ("Memory regions description"). Memory slots may be more, but come one by one.
	MaxRegions = 8

	regionSize = 32
	addrSize   = 40
	slotSize   = 8 + regionSize // with its padding
	logSize    = 16
)

// Header flags ("Header").
const (
	version       uint32 = 1      // bits 0-1
	versionMask   uint32 = 3      //
	flagReply     uint32 = 1 << 2 // the message is a reply
	flagNeedReply uint32 = 1 << 3 // REPLY_ACK is wanted
)

const flagLogged uint32 = 1 << 0 // in the payload of SET_VRING_ADDR: writes to the used ring are logged (VHOST_VRING_F_LOG)

const noFD = 1 << 8 // in the payload of SET_VRING_KICK, CALL and ERR: no descriptor comes with the message

var (
	// ErrFraming means that the stream cannot be trusted from here on: the connection is to be closed.
	ErrFraming = errors.New("broken framing")
	// ErrValue means that the message is well framed, and asks for something that cannot be.
	ErrValue = errors.New("bad value")
	// ErrFDs means that other descriptors came with a message than it has. It goes with ErrValue.
	ErrFDs = errors.New("wrong number of file descriptors")
	// ErrUnknown means a message that this package does not know. The protocol wants it refused or ignored.
	ErrUnknown = errors.New("unknown message")
)

// Header is the start of every message.
type Header struct {
	Request   Request
	NeedReply bool   // the sender waits for an acknowledgement (REPLY_ACK)
	Size      uint32 // of the payload that follows, at most MaxPayload
}

// Region is one entry of SET_MEM_TABLE ("Memory regions description"), or a memory slot ("Single memory region
// description"). Its descriptor travels beside the message.
type Region struct {
	GPA    uint64 // guest-physical address
	Size   uint64 // bytes
	UVA    uint64 // address in the front end's process
	Offset uint64 // of the region's first byte in its file
}

// RingAddr are the addresses of SET_VRING_ADDR ("Vring address description").
type RingAddr struct {
	Desc, Used, Avail uint64 // in the front end's process
	// Log is the guest-physical address of the used ring, and Logged says that writes to it are logged. Some front ends tell
	// the address even when they do not log.
	Log    uint64
	Logged bool
}

// Message is one request of a front end. Which fields have a meaning depends on Request.
type Message struct {
	Request   Request
	NeedReply bool

	// Value holds the bits of SET_FEATURES and SET_PROTOCOL_FEATURES, and the bytes of NET_SET_MTU.
	Value uint64
	// Ring is the ring that a SET_VRING_ or GET_VRING_ message is about. It is not checked against the device.
	Ring uint32
	// Num is the size of SET_VRING_NUM, where the ring stands of SET_VRING_BASE (in how many bits depends on its layout), and 0
	// or 1 of SET_VRING_ENABLE.
	Num uint32
	// NoFD is set in SET_VRING_KICK, CALL and ERR when no descriptor comes with the message.
	NoFD bool
	// Addr is the payload of SET_VRING_ADDR.
	Addr RingAddr
	// Regions are those of SET_MEM_TABLE, 1 to MaxRegions, each with one descriptor, and the one of ADD_MEM_REG and
	// REM_MEM_REG.
	Regions []Region
	// LogSize and LogOffset are where the dirty log of SET_LOG_BASE is in its file, in bytes.
	LogSize, LogOffset uint64
	// MAC is the address of SEND_RARP.
	MAC [6]byte
}

// DecodeHeader decodes the header of a request. b has HeaderSize bytes. The error wraps ErrFraming.
func DecodeHeader(b []byte) (Header, error) {
	flags := binary.LittleEndian.Uint32(b[4:])
	h := Header{
		Request:   Request(binary.LittleEndian.Uint32(b)),
		NeedReply: flags&flagNeedReply != 0,
		Size:      binary.LittleEndian.Uint32(b[8:]),
	}
	if flags&versionMask != version {
		return h, fmt.Errorf("%w: %v has protocol version %d", ErrFraming, h.Request, flags&versionMask)
	}
	if flags&flagReply != 0 {
		return h, fmt.Errorf("%w: %v is a reply", ErrFraming, h.Request)
	}
	if h.Size > MaxPayload {
		return h, fmt.Errorf("%w: %v has a payload of %d bytes", ErrFraming, h.Request, h.Size)
	}
	return h, nil
}

// Decode decodes the payload of a request that came with header h and the given number of descriptors. The error wraps
// ErrFraming, ErrValue or ErrUnknown. The message keeps nothing of payload.
func Decode(h Header, payload []byte, fds int) (Message, error) {
	m := Message{Request: h.Request, NeedReply: h.NeedReply}
	l, ok := layoutOf(h.Request)
	if !ok {
		return m, fmt.Errorf("%w: %d", ErrUnknown, uint32(h.Request))
	}
	if err := checkSize(l.shape, payload); err != nil {
		return m, fmt.Errorf("%v: %w", h.Request, err)
	}
	if err := m.decode(l.shape, payload); err != nil {
		return m, fmt.Errorf("%v: %w: %w", h.Request, ErrValue, err)
	}
	if want := m.FDs(); fds < want || fds > want+l.spare {
		return m, fmt.Errorf("%v: %w: %w: %d, want %d", h.Request, ErrValue, ErrFDs, fds, want)
	}
	return m, nil
}

// FDs returns how many descriptors travel with the message. Some front ends send one with REM_MEM_REG, which needs none.
func (m *Message) FDs() int {
	l, _ := layoutOf(m.Request)
	switch l.shape {
	case shapeMem:
		return len(m.Regions)
	case shapeRingFD:
		if m.NoFD {
			return 0
		}
		return 1
	}
	return l.fds
}

// checkSize tells whether payload has the size of its shape. The regions of a table may be followed by unused entries:
// some front ends always send a whole array. A table with too many regions is well framed; decodeMem refuses it.
func checkSize(s shape, payload []byte) error {
	lo, hi := 0, 0
	switch s {
	case shapeU64, shapeState, shapeRingFD:
		lo, hi = 8, 8
	case shapeAddr:
		lo, hi = addrSize, addrSize
	case shapeMem:
		lo, hi = 8, MaxPayload
	case shapeRegion:
		lo, hi = slotSize, slotSize
	case shapeLog:
		lo, hi = logSize, logSize
	}
	if len(payload) < lo || len(payload) > hi {
		return fmt.Errorf("%w: payload of %d bytes", ErrFraming, len(payload))
	}
	return nil
}

func (m *Message) decode(s shape, b []byte) error {
	switch s {
	case shapeU64:
		return m.decodeU64(binary.LittleEndian.Uint64(b))
	case shapeState:
		return m.decodeState(binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]))
	case shapeRingFD:
		return m.decodeRingFD(binary.LittleEndian.Uint64(b))
	case shapeAddr:
		return m.decodeAddr(b)
	case shapeMem:
		return m.decodeMem(b)
	case shapeRegion:
		m.Regions = []Region{decodeRegion(b[8:])}
	case shapeLog:
		m.LogSize, m.LogOffset = binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	}
	return nil
}

func (m *Message) decodeU64(v uint64) error {
	switch m.Request {
	case SendRARP: // the address is the first six bytes in memory
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], v)
		copy(m.MAC[:], b[:])
		return nil
	case NetSetMTU:
		if v < 68 || v > math.MaxUint16 {
			return fmt.Errorf("MTU %d", v)
		}
	}
	m.Value = v
	return nil
}

func (m *Message) decodeState(ring, num uint32) error {
	m.Ring, m.Num = ring, num
	if m.Request == SetVringEnable && num > 1 {
		return fmt.Errorf("enable %d", num)
	}
	return nil
}

func (m *Message) decodeRingFD(v uint64) error {
	if v > noFD|math.MaxUint8 {
		return fmt.Errorf("reserved bits in %#x", v)
	}
	m.Ring = uint32(v & math.MaxUint8)
	m.NoFD = v&noFD != 0
	return nil
}

func (m *Message) decodeAddr(b []byte) error {
	m.Ring = binary.LittleEndian.Uint32(b)
	m.Addr = RingAddr{
		Desc:  binary.LittleEndian.Uint64(b[8:]),
		Used:  binary.LittleEndian.Uint64(b[16:]),
		Avail: binary.LittleEndian.Uint64(b[24:]),
		Log:   binary.LittleEndian.Uint64(b[32:]),
	}
	flags := binary.LittleEndian.Uint32(b[4:])
	m.Addr.Logged = flags&flagLogged != 0
	if unknown := flags &^ flagLogged; unknown != 0 {
		return fmt.Errorf("flags %#x are not known", unknown)
	}
	return nil
}

func (m *Message) decodeMem(b []byte) error {
	n := binary.LittleEndian.Uint32(b)
	if n == 0 || n > MaxRegions {
		return fmt.Errorf("%d memory regions in a table, want 1 to %d", n, MaxRegions)
	}
	b = b[8:] // the count and padding
	if int(n)*regionSize > len(b) {
		return fmt.Errorf("%d memory regions in %d bytes", n, len(b))
	}
	m.Regions = make([]Region, n)
	for i := range m.Regions {
		m.Regions[i] = decodeRegion(b)
		b = b[regionSize:]
	}
	return nil
}

func decodeRegion(b []byte) Region {
	return Region{
		GPA:    binary.LittleEndian.Uint64(b),
		Size:   binary.LittleEndian.Uint64(b[8:]),
		UVA:    binary.LittleEndian.Uint64(b[16:]),
		Offset: binary.LittleEndian.Uint64(b[24:]),
	}
}

// Append appends the message, header included, to b: what a front end sends.
func (m *Message) Append(b []byte) []byte {
	start := len(b)
	flags := version
	if m.NeedReply {
		flags |= flagNeedReply
	}
	b = appendHeader(b, m.Request, flags, 0)
	b = m.appendPayload(b)
	binary.LittleEndian.PutUint32(b[start+8:], uint32(len(b)-start-HeaderSize))
	return b
}

func (m *Message) appendPayload(b []byte) []byte {
	l, _ := layoutOf(m.Request)
	switch l.shape {
	case shapeU64:
		if m.Request == SendRARP {
			return append(append(b, m.MAC[:]...), 0, 0)
		}
		return binary.LittleEndian.AppendUint64(b, m.Value)
	case shapeState:
		return appendUint32s(b, m.Ring, m.Num)
	case shapeRingFD:
		v := uint64(m.Ring & math.MaxUint8)
		if m.NoFD {
			v |= noFD
		}
		return binary.LittleEndian.AppendUint64(b, v)
	case shapeAddr:
		flags := uint32(0)
		if m.Addr.Logged {
			flags = flagLogged
		}
		b = appendUint32s(b, m.Ring, flags)
		return appendUint64s(b, m.Addr.Desc, m.Addr.Used, m.Addr.Avail, m.Addr.Log)
	case shapeMem:
		return appendRegions(appendUint32s(b, uint32(len(m.Regions)), 0), m.Regions)
	case shapeRegion:
		return appendRegions(appendUint64s(b, 0), m.Regions)
	case shapeLog:
		return appendUint64s(b, m.LogSize, m.LogOffset)
	}
	return b
}

func appendRegions(b []byte, regions []Region) []byte {
	for _, r := range regions {
		b = appendUint64s(b, r.GPA, r.Size, r.UVA, r.Offset)
	}
	return b
}

func appendHeader(b []byte, r Request, flags, size uint32) []byte {
	return appendUint32s(b, uint32(r), flags, size)
}

func appendUint32s(b []byte, values ...uint32) []byte {
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

func appendUint64s(b []byte, values ...uint64) []byte {
	for _, v := range values {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}
