package httphead

// part is where in a body a Body stands.
type part uint8

const (
	plain     part = iota // left bytes without more structure
	chunkSize             // the digits of a chunk's length
	chunkLF               // the LF behind them
	chunkData
	dataCR // behind a chunk's data
	dataLF
	lastCR // behind the chunk of length 0, where fields could stand
	lastLF
)

// maxDigits is how many digits the length of a chunk may have.
const maxDigits = 15

// Body walks over the body of a request, of which it keeps nothing. It holds no pointers. The zero value is a body of no bytes.
type Body struct {
	left   uint64 // bytes, of the body or of the chunk
	part   part
	digits uint8
}

// IsOver reports whether the next byte is not of the body any more.
func (b *Body) IsOver() bool { return b.part == plain && b.left == 0 }

// Plain returns how many bytes may follow that nobody needs to look at.
func (b *Body) Plain() uint64 {
	if b.part == plain || b.part == chunkData {
		return b.left
	}
	return 0
}

// Skip takes note that n bytes have passed, no more than Plain has told.
func (b *Body) Skip(n int) {
	b.left -= uint64(n)
	if b.left == 0 && b.part == chunkData {
		b.part = dataCR
	}
}

// Walk returns how many bytes at the beginning of p are of the body, up to its end. After an error the Body is of no use.
func (b *Body) Walk(p []byte) (n int, err error) {
	for n < len(p) && !b.IsOver() {
		if plain := b.Plain(); plain > 0 {
			skip := min(plain, uint64(len(p)-n))
			n += int(skip)
			b.Skip(int(skip))
			continue
		}
		if !b.step(p[n]) {
			return n, ErrChunk
		}
		n++
	}
	return n, nil
}

// step takes one byte of the structure of chunks (RFC 9112 section 7.1), and reports whether it is right.
func (b *Body) step(c byte) bool {
	switch b.part {
	case chunkSize:
		return b.size(c)
	case chunkLF:
		b.part, b.digits = chunkData, 0
		if b.left == 0 {
			b.part = lastCR
		}
		return c == '\n'
	case dataCR:
		b.part = dataLF
		return c == '\r'
	case dataLF:
		b.part = chunkSize
		return c == '\n'
	case lastCR:
		b.part = lastLF
		return c == '\r'
	case lastLF:
		b.part = plain
		return c == '\n'
	}
	return false
}

// size takes a digit of a chunk's length, or the CR behind it.
func (b *Body) size(c byte) bool {
	if c == '\r' {
		b.part = chunkLF
		return b.digits > 0
	}
	var digit byte
	switch {
	case c >= '0' && c <= '9':
		digit = c - '0'
	case c >= 'a' && c <= 'f':
		digit = c - 'a' + 10
	case c >= 'A' && c <= 'F':
		digit = c - 'A' + 10
	default:
		return false
	}
	b.left = b.left<<4 | uint64(digit)
	b.digits++
	return b.digits <= maxDigits
}
