package filter

import "encoding/binary"

// Instruction is one of the Berkeley packet filter, as in struct sock_filter of the kernel.
type Instruction struct {
	Op          uint16
	True, False uint8 // how many instructions a conditional jump skips
	K           uint32
}

// Opcodes. Numbers are those of the kernel's linux/bpf_common.h.
const (
	opLoadWord    = 0x20 // A = word at K
	opLoadHalf    = 0x28
	opLoadByte    = 0x30
	opLoadWordX   = 0x40 // A = word at X+K
	opLoadHalfX   = 0x48
	opLoadByteX   = 0x50
	opLoadConst   = 0x00
	opLoadScratch = 0x60
	opLoadLen     = 0x80
	opXHeaderLen  = 0xb1 // X = 4 * (byte at K & 15)
	opXScratch    = 0x61
	opStore       = 0x02
	opToX         = 0x07
	opAdd         = 0x04
	opSub         = 0x14
	opMul         = 0x24
	opDiv         = 0x34
	opOr          = 0x44
	opAnd         = 0x54
	opShiftLeft   = 0x64
	opShiftRight  = 0x74
	opNegate      = 0x84
	opJump        = 0x05
	opEqual       = 0x15
	opGreater     = 0x25
	opNotLess     = 0x35
	opAnyBit      = 0x45
	opReturn      = 0x06

	withX = 0x08 // of an operation or a jump: with X in the place of K
)

// scratchWords is how many words a program can store, M[] in the words of the manual.
const scratchWords = 16

// MaxReach is how many bytes of a frame a program can look at: the longest frame.
const MaxReach = 65535 + 14

// longestHeader is that of an IPv4 header in bytes, which bounds what opXHeaderLen loads.
const longestHeader = 60

// Program selects frames. The zero value selects all of them.
type Program struct {
	code  []Instruction
	reach int
}

// Instructions returns a copy of the program, for who wants to run it elsewhere.
func (p *Program) Instructions() []Instruction { return append([]Instruction(nil), p.code...) }

// Reach returns how many bytes of a frame, from its beginning, the program may look at. It is 0 for a program that selects all.
func (p *Program) Reach() int { return p.reach }

// SelectsAll reports whether the program selects all frames, whatever they are.
func (p *Program) SelectsAll() bool { return len(p.code) == 0 }

// Match reports whether the program selects a frame of so many bytes, of which frame has the first: all, or at least as many
// as Reach says. It allocates nothing.
func (p *Program) Match(frame []byte, length int) bool {
	if len(p.code) == 0 {
		return true
	}
	return run(p.code, frame, uint32(length))
}

// run executes a program. A load behind the end of the frame, like a division by 0, ends it: the frame is not selected.
func run(code []Instruction, frame []byte, length uint32) bool {
	var a, x uint32
	var scratch [scratchWords]uint32
	for pc := 0; pc < len(code); pc++ {
		in := &code[pc]
		switch in.Op {
		case opLoadWord, opLoadHalf, opLoadByte:
			v, ok := load(frame, uint64(in.K), in.Op-opLoadWord)
			if !ok {
				return false
			}
			a = v
		case opLoadWordX, opLoadHalfX, opLoadByteX:
			v, ok := load(frame, uint64(in.K)+uint64(x), in.Op-opLoadWordX)
			if !ok {
				return false
			}
			a = v
		case opXHeaderLen:
			if uint64(in.K) >= uint64(len(frame)) {
				return false
			}
			x = uint32(frame[in.K]&15) * 4
		case opEqual, opGreater, opNotLess, opAnyBit:
			pc += skip(in, a, in.K)
		case opEqual | withX, opGreater | withX, opNotLess | withX:
			pc += skip(in, a, x)
		case opJump:
			pc += int(in.K)
		case opReturn:
			return in.K != 0
		case opLoadConst:
			a = in.K
		case opLoadLen:
			a = length
		case opLoadScratch:
			a = scratch[in.K%scratchWords]
		case opXScratch:
			x = scratch[in.K%scratchWords]
		case opStore:
			scratch[in.K%scratchWords] = a
		case opToX:
			x = a
		case opNegate:
			a = -a
		default:
			by := in.K
			if in.Op&withX != 0 {
				by = x
			}
			if in.Op&^withX == opDiv && by == 0 {
				return false
			}
			a = compute(in.Op&^withX, a, by)
		}
	}
	return false
}

// load reads 4, 2 or 1 bytes, by the part of the opcode that says how many.
func load(frame []byte, at uint64, size uint16) (v uint32, ok bool) {
	if at >= uint64(len(frame)) {
		return 0, false
	}
	b := frame[at:]
	switch {
	case size == opLoadByte-opLoadWord:
		return uint32(b[0]), true
	case size == opLoadHalf-opLoadWord && len(b) >= 2:
		return uint32(binary.BigEndian.Uint16(b)), true
	case size == 0 && len(b) >= 4:
		return binary.BigEndian.Uint32(b), true
	}
	return 0, false
}

// skip returns how many instructions a conditional jump skips.
func skip(in *Instruction, a, b uint32) int {
	var is bool
	switch in.Op &^ withX {
	case opEqual:
		is = a == b
	case opGreater:
		is = a > b
	case opNotLess:
		is = a >= b
	default:
		is = a&b != 0
	}
	if is {
		return int(in.True)
	}
	return int(in.False)
}

// compute is an operation other than a division by 0.
func compute(op uint16, a, by uint32) uint32 {
	switch op {
	case opAdd:
		return a + by
	case opSub:
		return a - by
	case opMul:
		return a * by
	case opDiv:
		return a / by
	case opOr:
		return a | by
	case opAnd:
		return a & by
	case opShiftLeft:
		return a << by // 0 for 32 and more, as in libpcap
	default:
		return a >> by
	}
}
