package pcapng

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// Block is a block of a file.
type Block struct {
	Kind uint32
	Text []byte // all of it, valid until the next is read
}

// maxBlock bounds a block, in bytes: that of a packet of the longest frame has less.
const maxBlock = 1 << 20

// Scanner reads blocks of a little-endian file.
type Scanner struct {
	from  io.Reader
	block []byte
}

// NewScanner returns a Scanner of what from has.
func NewScanner(from io.Reader) *Scanner { return &Scanner{from: from} }

// Next reads a block. The error is io.EOF behind the last one, and io.ErrUnexpectedEOF in the middle of one.
func (s *Scanner) Next() (Block, error) {
	const least = 12 // kind, and the length twice
	s.block = append(s.block[:0], make([]byte, 8)...)
	if _, err := io.ReadFull(s.from, s.block); err != nil {
		return Block{}, err
	}
	kind, n := binary.LittleEndian.Uint32(s.block), binary.LittleEndian.Uint32(s.block[4:])
	if n < least || n%4 != 0 || n > maxBlock {
		return Block{}, fmt.Errorf("a block of %d bytes: it is no capture", n)
	}
	s.block = append(s.block, make([]byte, n-8)...)
	if _, err := io.ReadFull(s.from, s.block[8:]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Block{}, err
	}
	if binary.LittleEndian.Uint32(s.block[n-4:]) != n {
		return Block{}, errors.New("a block with two lengths: it is no capture")
	}
	return Block{kind, s.block}, nil
}

// Counters returns what a block of Statistics tells, and reports whether it is one that this package writes.
func (b Block) Counters() (s StatisticsInfo, ok bool) {
	const optionsAt = 20
	if b.Kind != Statistics || len(b.Text) < optionsAt+4 {
		return s, false
	}
	s.Interface = int(binary.LittleEndian.Uint32(b.Text[8:]))
	s.Time = time.Unix(0, int64(uint64(binary.LittleEndian.Uint32(b.Text[12:]))<<32|uint64(binary.LittleEndian.Uint32(b.Text[16:]))))
	options := b.Text[optionsAt : len(b.Text)-4]
	for len(options) >= 4 {
		code, n := binary.LittleEndian.Uint16(options), int(binary.LittleEndian.Uint16(options[2:]))
		options = options[4:]
		if code == optionEnd || n > len(options) {
			break
		}
		if n == 8 && code == statisticsReceived {
			s.Received = binary.LittleEndian.Uint64(options)
		}
		if n == 8 && code == statisticsDropped {
			s.Dropped = binary.LittleEndian.Uint64(options)
		}
		options = options[min((n+3)&^3, len(options)):]
	}
	return s, true
}
