package vnet

import "encoding/binary"

const (
	// HeaderLen is the size of the header with VERSION_1 or MRG_RXBUF, in bytes.
	HeaderLen = 12
	// LegacyHeaderLen is its size otherwise: NumBuffers is missing.
	LegacyHeaderLen = 10
)

// HeaderLength returns the size of the header with the acknowledged features.
func HeaderLength(features uint64) int {
	if features&(FeatureVersion1|FeatureMrgRxBuf) != 0 {
		return HeaderLen
	}
	return LegacyHeaderLen
}

// Flags of a header (virtio 1.2 section 5.1.6).
const (
	FlagNeedsCSum = 1 << 0 // the checksum at CsumStart+CsumOffset covers the pseudo header only so far
	FlagDataValid = 1 << 1 // the checksum was verified; to the guest only
	FlagRSCInfo   = 1 << 2 // CsumStart and CsumOffset count coalesced segments; to the guest only
)

// GSO types of a header (virtio 1.2 section 5.1.6). GSOECN is a bit that goes with a TCP type.
const (
	GSONone  = 0
	GSOTCPv4 = 1
	GSOUDP   = 3 // UDP that is to be fragmented ("UFO")
	GSOTCPv6 = 4
	GSOUDPL4 = 5 // UDP that is to be cut into datagrams ("USO")
	GSOECN   = 0x80
)

// Header is the header before each frame, struct virtio_net_hdr (virtio 1.2 section 5.1.6). Offsets and lengths count
// from the frame's first byte, behind the header.
type Header struct {
	Flags      uint8
	GSOType    uint8
	HdrLen     uint16 // length of the frame's headers, a hint that is not to be trusted
	GSOSize    uint16 // payload bytes of a segment
	CsumStart  uint16 // where checksumming begins
	CsumOffset uint16 // where the checksum goes, from CsumStart
	NumBuffers uint16 // chains that the frame fills; to the guest only
}

// Encode writes h to b, which is HeaderLen or LegacyHeaderLen long. NumBuffers goes to the long form only.
func (h *Header) Encode(b []byte) {
	_ = b[LegacyHeaderLen-1]
	b[0], b[1] = h.Flags, h.GSOType
	binary.LittleEndian.PutUint16(b[2:], h.HdrLen)
	binary.LittleEndian.PutUint16(b[4:], h.GSOSize)
	binary.LittleEndian.PutUint16(b[6:], h.CsumStart)
	binary.LittleEndian.PutUint16(b[8:], h.CsumOffset)
	if len(b) >= HeaderLen {
		binary.LittleEndian.PutUint16(b[10:], h.NumBuffers)
	}
}

// Decode reads h from b, which is HeaderLen or LegacyHeaderLen long and a copy: the guest's own bytes may change under
// the reader.
func (h *Header) Decode(b []byte) {
	_ = b[LegacyHeaderLen-1]
	h.Flags, h.GSOType = b[0], b[1]
	h.HdrLen = binary.LittleEndian.Uint16(b[2:])
	h.GSOSize = binary.LittleEndian.Uint16(b[4:])
	h.CsumStart = binary.LittleEndian.Uint16(b[6:])
	h.CsumOffset = binary.LittleEndian.Uint16(b[8:])
	h.NumBuffers = 0
	if len(b) >= HeaderLen {
		h.NumBuffers = binary.LittleEndian.Uint16(b[10:])
	}
}

// Words returns the long form of h as it lies in memory, 8 bytes and 4, each least significant first: [Header.Encode] for
// those who write words.
func (h *Header) Words() (first uint64, rest uint32) {
	first = uint64(h.Flags) | uint64(h.GSOType)<<8 | uint64(h.HdrLen)<<16 | uint64(h.GSOSize)<<32 | uint64(h.CsumStart)<<48
	return first, uint32(h.CsumOffset) | uint32(h.NumBuffers)<<16
}

// FromWords is the reverse of Words.
func FromWords(first uint64, rest uint32) Header {
	return Header{
		Flags: uint8(first), GSOType: uint8(first >> 8), HdrLen: uint16(first >> 16), GSOSize: uint16(first >> 32),
		CsumStart: uint16(first >> 48), CsumOffset: uint16(rest), NumBuffers: uint16(rest >> 16),
	}
}
