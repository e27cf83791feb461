package talk

import (
	"encoding/binary"
	"fmt"
)

// Kind is who does what in a conversation.
type Kind uint8

// The kinds.
const (
	Both           Kind = iota // both ends send at the same time
	CallerFirst                // the answerer sends when the caller's direction has ended
	AnswererFirst              // the other way round
	CallerResets               // the caller resets the connection when it has sent half
	AnswererResets             // the answerer does
	Kinds                      // how many there are
)

// Resets tells whether one end is to reset the connection.
func (k Kind) Resets() bool { return k == CallerResets || k == AnswererResets }

// Script is what is to be done in one conversation.
type Script struct {
	ID       uint64 // of this conversation; it seeds the data
	Kind     Kind
	Up, Down int64 // bytes that the caller and the answerer send
}

const (
	magic      = "talk"
	scriptSize = len(magic) + 1 + 3*8
)

func (s Script) upSeed() uint64   { return 2 * s.ID }
func (s Script) downSeed() uint64 { return 2*s.ID + 1 }

// encode returns the script as the caller sends it.
func (s Script) encode() []byte {
	b := append([]byte(magic), byte(s.Kind))
	for _, n := range []uint64{s.ID, uint64(s.Up), uint64(s.Down)} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return b
}

func decode(b []byte) (Script, error) {
	kind := Kind(b[len(magic)])
	if string(b[:len(magic)]) != magic || kind >= Kinds {
		return Script{}, fmt.Errorf("this is no script: % x", b)
	}
	n := b[len(magic)+1:]
	return Script{
		Kind: kind, ID: binary.LittleEndian.Uint64(n),
		Up: int64(binary.LittleEndian.Uint64(n[8:])), Down: int64(binary.LittleEndian.Uint64(n[16:])),
	}, nil
}
