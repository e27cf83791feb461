package testframe

import (
	"encoding/binary"
	"math/bits"
)

// Places of the header's words in a frame. All have 8 bytes, the most significant first.
const (
	NumberAt = 14 // counts the frames of a stream, from 0 on
	StampAt  = 22 // when it was sent, in nanoseconds of the host's monotonic clock
	StreamAt = 30 // which stream it is of, and, in the lower half, the length of the frame in bytes
	CheckAt  = 38 // follows from the words before it
	End      = 46 // of the header

	// EtherType is that of frames that mean nothing to anybody (IEEE 802, local experimental 1).
	EtherType = 0x88b5
)

// Header is what a frame says of itself.
type Header struct {
	Number uint64
	Stamp  uint64
	Stream uint64 // with the length
	Check  uint64
}

// StreamWord returns the word of a stream's frames of a length.
func StreamWord(stream uint32, length int) uint64 { return uint64(stream)<<32 | uint64(uint32(length)) }

// numberFactor is odd, so that no two numbers have the same product.
const numberFactor = 0x9e3779b97f4a7c15

// CheckBase returns what frames of a time, a stream and a length have in common of their check words.
func CheckBase(stamp, stream uint64) uint64 {
	return bits.RotateLeft64(stamp*0xbf58476d1ce4e5b9, 29) ^ stream*0x94d049bb133111eb ^ 0x76_72_69_6e_67
}

// Check returns the check word of a frame with a number.
func Check(base, number uint64) uint64 { return base ^ number*numberFactor }

// Put writes the header into a frame, with the stream's number and time.
func Put(frame []byte, number uint64, stamp uint64, stream uint32) {
	word := StreamWord(stream, len(frame))
	binary.BigEndian.PutUint64(frame[NumberAt:], number)
	binary.BigEndian.PutUint64(frame[StampAt:], stamp)
	binary.BigEndian.PutUint64(frame[StreamAt:], word)
	binary.BigEndian.PutUint64(frame[CheckAt:], Check(CheckBase(stamp, word), number))
}

// Parse reads the header of a frame of which b is the beginning, End bytes at least.
func Parse(b []byte) Header {
	return Header{
		Number: binary.BigEndian.Uint64(b[NumberAt:]), Stamp: binary.BigEndian.Uint64(b[StampAt:]),
		Stream: binary.BigEndian.Uint64(b[StreamAt:]), Check: binary.BigEndian.Uint64(b[CheckAt:]),
	}
}

// isWhole reports whether the frame, of a length, is as it was sent.
func (h *Header) isWhole(length int) bool {
	return uint64(uint32(h.Stream)) == uint64(length) && h.Check == Check(CheckBase(h.Stamp, h.Stream), h.Number)
}
