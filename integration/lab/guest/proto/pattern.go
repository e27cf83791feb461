package proto

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"math/rand/v2"
)

// patternBlock is the length of the random block that a pattern repeats. It is large next to what a TCP window holds, and
// each repetition is numbered, so that a lost, doubled or moved stretch changes the sum.
const patternBlock = 1 << 20

// pattern is a reader of test data that a seed and a length determine. It is cheap to make, for guests that a processor
// emulator runs.
type pattern struct {
	block  []byte
	offset int // in block
	round  uint64
	left   int64
}

// Pattern returns n bytes of test data; the same seed gives the same bytes on both sides.
func Pattern(seed uint64, n int64) io.Reader {
	p := &pattern{block: make([]byte, patternBlock), left: n}
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	rand.NewChaCha8(key).Read(p.block)
	p.number()
	return p
}

func (p *pattern) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	if int64(len(b)) > p.left {
		b = b[:p.left]
	}
	n := copy(b, p.block[p.offset:])
	p.offset += n
	p.left -= int64(n)
	if p.offset == len(p.block) {
		p.offset = 0
		p.round++
		p.number()
	}
	return n, nil
}

// number writes the count of the repetition into each page of the block.
func (p *pattern) number() {
	for at := 0; at < len(p.block); at += 4096 {
		binary.LittleEndian.PutUint64(p.block[at:], p.round)
	}
}

// PatternSum returns the SHA-256 of Pattern(seed, n) in hexadecimal.
func PatternSum(seed uint64, n int64) string {
	return Sum(Pattern(seed, n)).SHA256
}

// Sum reads r to its end and tells what came. An error of r ends it too: the byte count shows it.
func Sum(r io.Reader) Transfer {
	hash := sha256.New()
	n, _ := io.CopyBuffer(hash, onlyReader{r}, make([]byte, 256<<10))
	return Transfer{Bytes: n, SHA256: hex.EncodeToString(hash.Sum(nil))}
}

// onlyReader hides WriterTo, which would bring its own, smaller buffer.
type onlyReader struct{ io.Reader }
