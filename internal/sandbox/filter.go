package sandbox

import (
	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
)

// The list as a program of the kernel's packet filter (seccomp(2)). It is put together here and not by the library, which
// goes on with another call's rules when a condition fails, and then takes the argument for the number of the call.

// call is a system call that is allowed if all conditions hold.
type call struct {
	name string
	when []condition
}

// condition is one of an argument, of which the lower 32 bits count; the upper ones must be zero where the kernel's own
// code does not ignore them.
type condition struct {
	argument uint32
	is       relation
	value    uint32
}

// relation is that of an argument and a value.
type relation uint8

const (
	equal      relation = iota
	notEqual            // and no more than 32 bits
	withBit             // has a bit of the value
	withoutBit          // has none
)

// list is what is allowed, and what happens to the rest.
type list struct {
	calls  []call
	denied map[string]seccomp.Action // what is answered otherwise, for some
	refuse seccomp.Action            // and for all others
}

// Offsets in the kernel's struct seccomp_data, on processors that are little-endian.
const (
	offsetNumber   = 0
	offsetMachine  = 4
	offsetArgument = 16
	sizeWord       = 4
)

// program is the list for a machine, without the calls that it does not have. Calls without conditions come first.
func (l *list) program(machine *arch.Info) []bpf.Instruction {
	const x32 = 0x40000000 // marks calls of programs with 32-bit pointers (__X32_SYSCALL_BIT)
	refuse := bpf.RetConstant{Val: uint32(l.refuse)}
	program := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offsetMachine, Size: sizeWord},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(machine.ID), SkipTrue: 1}, refuse,
		bpf.LoadAbsolute{Off: offsetNumber, Size: sizeWord},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: x32, SkipFalse: 1}, refuse,
	}
	conditional := map[string][][]condition{}
	for _, c := range l.calls {
		if len(c.when) > 0 {
			conditional[c.name] = append(conditional[c.name], c.when)
		} else if number, ok := machine.SyscallNames[c.name]; ok {
			program = append(program, on(number, []bpf.Instruction{bpf.RetConstant{Val: uint32(seccomp.ActionAllow)}})...)
		}
	}
	for _, name := range sortedKeys(conditional) {
		if number, ok := machine.SyscallNames[name]; ok {
			program = append(program, on(number, l.alternatives(name, conditional[name]))...)
		}
	}
	for _, name := range sortedKeys(l.denied) {
		if number, ok := machine.SyscallNames[name]; ok && conditional[name] == nil {
			program = append(program, on(number, []bpf.Instruction{bpf.RetConstant{Val: uint32(l.denied[name])}})...)
		}
	}
	return append(program, refuse)
}

// on is what is done for the call of a number, which returns. The number is the word that was loaded last.
func on(number int, body []bpf.Instruction) []bpf.Instruction {
	return append([]bpf.Instruction{
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(number), SkipTrue: 1}, bpf.Jump{Skip: uint32(len(body))},
	}, body...)
}

// alternatives allow a call if all conditions of one of them hold, and end with its refusal.
func (l *list) alternatives(name string, sets [][]condition) (body []bpf.Instruction) {
	for _, set := range sets {
		body = append(body, check(set)...)
	}
	refuse, ok := l.denied[name]
	if !ok {
		refuse = l.refuse
	}
	return append(body, bpf.RetConstant{Val: uint32(refuse)})
}

// check allows a call if all conditions hold, and else goes on behind itself.
func check(set []condition) []bpf.Instruction {
	body := []bpf.Instruction{bpf.RetConstant{Val: uint32(seccomp.ActionAllow)}}
	for i := len(set) - 1; i >= 0; i-- {
		body = append(set[i].test(uint8(len(body))), body...)
	}
	return body
}

// test skips as many instructions behind it if the condition does not hold.
func (c *condition) test(skip uint8) []bpf.Instruction {
	low := offsetArgument + 8*c.argument
	high := []bpf.Instruction{
		bpf.LoadAbsolute{Off: low + sizeWord, Size: sizeWord},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: skip + 2}, // over what follows, too
	}
	load := bpf.LoadAbsolute{Off: low, Size: sizeWord}
	switch c.is {
	case equal:
		return append(high, load, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: c.value, SkipTrue: skip})
	case notEqual:
		return append(high, load, bpf.JumpIf{Cond: bpf.JumpEqual, Val: c.value, SkipTrue: skip})
	case withBit:
		return []bpf.Instruction{load, bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: c.value, SkipFalse: skip}}
	default:
		return []bpf.Instruction{load, bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: c.value, SkipTrue: skip}}
	}
}
