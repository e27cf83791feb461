package measure

import "github.com/vringnet/vring/virtqueue/guestmem"

const (
	lineText = 72 // characters of a line
	lineLen  = lineText + 2
	// chars is how many characters can be printed in ASCII. Each line begins one later than the one before.
	chars = int('~' - ' ' + 1)
	cycle = chars * lineLen // bytes of all different lines

	// MaxDatagram is the most characters of a datagram of chargen.
	MaxDatagram = 512
)

// Pattern is the stream of chargen: lines of all characters that can be printed in ASCII, in the form that RFC 864 recommends.
type Pattern struct{ text []byte }

// NewPattern makes it. Nothing changes it.
func NewPattern() *Pattern {
	const cycles = 4 // few pieces make a long frame
	p := &Pattern{make([]byte, 0, cycles*cycle)}
	for line := range cycles * chars {
		for i := range lineText {
			p.text = append(p.text, ' '+byte((line+i)%chars))
		}
		p.text = append(p.text, '\r', '\n')
	}
	return p
}

// Put writes n bytes of the stream, from the byte at a position on, to offset of iov. It returns how many had room.
func (p *Pattern) Put(iov []guestmem.Iovec, offset int, position uint64, n int) (done int) {
	for done < n {
		text := p.text[(position+uint64(done))%uint64(cycle):]
		put := guestmem.CopyTo(iov, offset+done, text[:min(len(text), n-done)])
		if put == 0 {
			break
		}
		done += put
	}
	return done
}

// Line returns n bytes from the beginning of a line on, which is the datagram of a number. n is MaxDatagram at most.
func (p *Pattern) Line(number uint64, n int) []byte {
	start := int(number%uint64(chars)) * lineLen
	return p.text[start : start+n]
}
