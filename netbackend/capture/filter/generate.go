package filter

import "fmt"

// maxProgram bounds a program, in instructions: what a frame can cost.
const maxProgram = 1024

// node is a condition. Its parts are evaluated in order, and only as far as needed: a load behind the end of a frame
// refuses the frame, so it matters what is loaded.
type node interface {
	// generate writes the program that goes on at yes or no, in front of what was written, and returns where it begins.
	generate(g *generator, yes, no label) label
}

// label is a place in a program: how many instructions there are from it to the end.
type label int

// generator writes a program from its end to its beginning, so that the places that are jumped to are known.
type generator struct {
	code []Instruction // the last one first
}

// put writes an instruction in front of the others.
func (g *generator) put(in Instruction) label {
	g.code = append(g.code, in)
	return label(len(g.code))
}

// distance is how many instructions an instruction that is put now skips to go on at to.
func (g *generator) distance(to label) int { return len(g.code) - int(to) }

// maxSkip is how far a conditional jump reaches, less what this package may put between.
const maxSkip = 255 - 2

// jump puts a conditional jump.
func (g *generator) jump(op uint16, k uint32, yes, no label) label {
	yes, no = g.near(yes), g.near(no)
	return g.put(Instruction{Op: op, True: uint8(g.distance(yes)), False: uint8(g.distance(no)), K: k})
}

// near returns a place that a conditional jump reaches, and that leads to to.
func (g *generator) near(to label) label {
	if g.distance(to) <= maxSkip {
		return to
	}
	return g.put(Instruction{Op: opJump, K: uint32(g.distance(to))})
}

type both struct{ first, second node }

func (n both) generate(g *generator, yes, no label) label {
	return n.first.generate(g, n.second.generate(g, yes, no), no)
}

type either struct{ first, second node }

func (n either) generate(g *generator, yes, no label) label {
	return n.first.generate(g, yes, n.second.generate(g, yes, no))
}

type not struct{ of node }

func (n not) generate(g *generator, yes, no label) label { return n.of.generate(g, no, yes) }

// test compares what some instructions leave in A.
type test struct {
	load []Instruction
	op   uint16
	k    uint32
}

func (n test) generate(g *generator, yes, no label) label {
	at := g.jump(n.op, n.k, yes, no)
	for i := len(n.load) - 1; i >= 0; i-- {
		at = g.put(n.load[i])
	}
	return at
}

// allOf is true if each of nodes is, and anyOf if one of them is. There is at least one.
func allOf(nodes ...node) node {
	n := nodes[0]
	for _, next := range nodes[1:] {
		n = both{n, next}
	}
	return n
}

func anyOf(nodes ...node) node {
	n := nodes[0]
	for _, next := range nodes[1:] {
		n = either{n, next}
	}
	return n
}

// accept is what a program returns that selects a frame: the longest part of it that the kernel can be asked for.
const accept = 0x40000

// generate makes the program of a condition.
func generate(n node) (*Program, error) {
	g := &generator{}
	no := g.put(Instruction{Op: opReturn})
	yes := g.put(Instruction{Op: opReturn, K: accept})
	n.generate(g, yes, no)
	if len(g.code) > maxProgram {
		return nil, fmt.Errorf("the filter needs %d instructions: want at most %d", len(g.code), maxProgram)
	}
	p := &Program{}
	for i := len(g.code) - 1; i >= 0; i-- {
		p.code = append(p.code, g.code[i])
	}
	p.reach = reach(p.code)
	return p, nil
}

// reach returns how many bytes a program may look at.
func reach(code []Instruction) (most int) {
	headerInX := false // and not something that was computed
	for i := range code {
		in := &code[i]
		end := 0
		switch in.Op {
		case opLoadWord, opLoadHalf, opLoadByte:
			end = int(in.K) + sizeOf(in.Op-opLoadWord)
		case opXHeaderLen:
			headerInX = true
			end = int(in.K) + 1
		case opToX, opXScratch:
			headerInX = false
		case opLoadWordX, opLoadHalfX, opLoadByteX:
			end = longestHeader + int(in.K) + sizeOf(in.Op-opLoadWordX)
			if !headerInX {
				end = MaxReach
			}
		}
		most = max(most, min(end, MaxReach))
	}
	return most
}

// sizeOf is how many bytes a load reads.
func sizeOf(size uint16) int {
	switch size {
	case opLoadByte - opLoadWord:
		return 1
	case opLoadHalf - opLoadWord:
		return 2
	}
	return 4
}
