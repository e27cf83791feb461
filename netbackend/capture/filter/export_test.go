package filter

import "encoding/binary"

// Run executes any program, as Match does.
func Run(code []Instruction, frame []byte) bool { return run(code, frame, uint32(len(frame))) }

// be puts numbers of 16 bits into a frame.
func Put16(b []byte, v uint16) { binary.BigEndian.PutUint16(b, v) }
