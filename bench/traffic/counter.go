package traffic

import (
	"encoding/binary"
	"fmt"
)

// wordSize is the length of a number in a counting stream.
const wordSize = 8

// counter is a place in a counting stream: the numbers from 0 on, little-endian, 64 bits each. Every word of it differs, so
// the first byte that is lost, doubled or moved shows.
type counter struct {
	next  uint64
	split [wordSize]byte // the beginning of a word whose end is still to come
	have  int            // how much of it
}

// fill writes the next numbers. The length of b is a multiple of wordSize.
func (c *counter) fill(b []byte) {
	for ; len(b) >= wordSize; b = b[wordSize:] {
		binary.LittleEndian.PutUint64(b, c.next)
		c.next++
	}
}

// verify checks that b is the next part of the stream. It may begin and end within a word.
func (c *counter) verify(b []byte) error {
	if c.have > 0 {
		n := copy(c.split[c.have:], b)
		c.have += n
		b = b[n:]
		if c.have < wordSize {
			return nil
		}
		c.have = 0
		if err := c.word(c.split[:]); err != nil {
			return err
		}
	}
	for ; len(b) >= wordSize; b = b[wordSize:] {
		if err := c.word(b); err != nil {
			return err
		}
	}
	c.have = copy(c.split[:], b)
	return nil
}

// word checks one number.
func (c *counter) word(b []byte) error {
	if got := binary.LittleEndian.Uint64(b); got != c.next {
		return fmt.Errorf("byte %d of the stream: number %d where %d should be", c.next*wordSize, got, c.next)
	}
	c.next++
	return nil
}
