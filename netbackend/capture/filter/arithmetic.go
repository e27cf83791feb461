package filter

import "fmt"

// value is an arithmetic expression. All numbers have 32 bits and no sign.
type value interface {
	// code leaves the value in A. It may use X, and words of scratch memory from depth on.
	code(depth int) ([]Instruction, error)
	// needs are conditions without which there is no value, in the order in which they are asked.
	needs() []node
}

// number is a constant.
type number uint32

func (n number) code(int) ([]Instruction, error) {
	return []Instruction{{Op: opLoadConst, K: uint32(n)}}, nil
}
func (n number) needs() []node { return nil }

// frameLen is the length of the frame.
type frameLen struct{}

func (frameLen) code(int) ([]Instruction, error) { return []Instruction{{Op: opLoadLen}}, nil }
func (frameLen) needs() []node                   { return nil }

// header is where bytes are read: so far behind the beginning of the frame, and behind a header of IPv4 if that is so.
type header struct {
	at         uint32
	behindIPv4 bool
	needs      []node
}

// headers are the protocols that bytes can be read of.
func headers() map[string]header {
	transport := func(proto uint32) header {
		return header{atNetwork, true, []node{ipv4Proto(proto), notLater()}}
	}
	return map[string]header{
		"ether": {},
		"ip":    {at: atNetwork, needs: []node{etherType(etherIPv4)}},
		"ip6":   {at: atNetwork, needs: []node{etherType(etherIPv6)}},
		"arp":   {at: atNetwork, needs: []node{etherType(etherARP)}},
		"rarp":  {at: atNetwork, needs: []node{etherType(etherRARP)}},
		"tcp":   transport(protoTCP),
		"udp":   transport(protoUDP),
		"sctp":  transport(protoSCTP),
		"icmp":  transport(protoICMP),
		"igmp":  transport(protoIGMP),
		"icmp6": {at: atPayload6, needs: []node{etherType(etherIPv6), test{byteAt(atProtocol6), opEqual, protoICMPv6}}},
	}
}

// field is bytes of a frame: proto[index:size].
type field struct {
	of    header
	index value
	size  int
}

// maxIndex bounds a constant index, so that no address wraps around.
const maxIndex = 65535

func (f field) needs() []node { return append(f.index.needs(), f.of.needs...) }

func (f field) code(depth int) ([]Instruction, error) {
	at, is := f.index.(number)
	if is && at > maxIndex {
		return nil, fmt.Errorf("index %d: want at most %d", at, maxIndex)
	}
	if is && !f.of.behindIPv4 {
		return []Instruction{f.load(opLoadWord, f.of.at+uint32(at))}, nil
	}
	if is {
		return []Instruction{{Op: opXHeaderLen, K: atNetwork}, f.load(opLoadWordX, f.of.at+uint32(at))}, nil
	}
	code, err := f.index.code(depth)
	if err != nil {
		return nil, err
	}
	if f.of.behindIPv4 {
		code = append(code, Instruction{Op: opStore, K: uint32(depth)}, Instruction{Op: opXHeaderLen, K: atNetwork},
			Instruction{Op: opLoadScratch, K: uint32(depth)}, Instruction{Op: opAdd | withX})
	}
	return append(code, Instruction{Op: opToX}, f.load(opLoadWordX, f.of.at)), nil
}

// load is the instruction that reads the field, by that for a word.
func (f field) load(word uint16, at uint32) Instruction {
	switch f.size {
	case 1:
		word += opLoadByte - opLoadWord
	case 2:
		word += opLoadHalf - opLoadWord
	}
	return Instruction{Op: word, K: at}
}

// operation is left op right.
type operation struct {
	op          uint16
	left, right value
}

// needs are those of the left operand alone, as libpcap has it: ip[2:2] - tcp[12] is read of all packets of IPv4.
func (o operation) needs() []node { return o.left.needs() }

func (o operation) code(depth int) ([]Instruction, error) {
	by, constant := o.right.(number)
	switch {
	case o.op == opDiv && !constant:
		return nil, fmt.Errorf("division by what is no number") // libpcap takes len / ip[0] for one by 0
	case o.op == opDiv && by == 0:
		return nil, fmt.Errorf("division by 0")
	case constant && (o.op == opShiftLeft || o.op == opShiftRight) && by > 31:
		return nil, fmt.Errorf("shift by %d: want at most 31", by)
	}
	code, k, x, err := operands(o.left, o.right, depth)
	return append(code, Instruction{Op: o.op | x, K: k}), err
}

// operands leaves left in A, and right in X if it is no constant: x is withX then. If it is one, it is k.
func operands(left, right value, depth int) (code []Instruction, k uint32, x uint16, err error) {
	if depth >= scratchWords {
		return nil, 0, 0, fmt.Errorf("the arithmetic is nested too deep: want at most %d levels", scratchWords)
	}
	if by, constant := right.(number); constant {
		code, err = left.code(depth)
		return code, uint32(by), 0, err
	}
	code, err = right.code(depth)
	if err != nil {
		return nil, 0, 0, err
	}
	code = append(code, Instruction{Op: opStore, K: uint32(depth)})
	first, err := left.code(depth + 1)
	code = append(append(code, first...), Instruction{Op: opXScratch, K: uint32(depth)})
	return code, 0, withX, err
}

// negation is -of.
type negation struct{ of value }

func (n negation) needs() []node { return n.of.needs() }

func (n negation) code(depth int) ([]Instruction, error) {
	code, err := n.of.code(depth)
	return append(code, Instruction{Op: opNegate}), err
}

// comparisons are the operators, and whether the opposite of the jump is meant.
var comparisons = []struct {
	text    string
	op      uint16
	negated bool
}{
	{">=", opNotLess, false}, {"<=", opGreater, true}, {"!=", opEqual, true}, {"==", opEqual, false},
	{"=", opEqual, false}, {">", opGreater, false}, {"<", opNotLess, true},
}

// compare is the condition left op right, with the needs of both.
func compare(left, right value, op uint16, negated bool) (node, error) {
	code, k, x, err := operands(left, right, 0)
	if err != nil {
		return nil, err
	}
	var is node = test{code, op | x, k}
	if negated {
		is = not{is}
	}
	return allOf(append(append(left.needs(), right.needs()...), is)...), nil
}
