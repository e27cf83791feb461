package adbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Version is the protocol's version from which on nobody computes checksums.
const Version = 0x01000001

// MaxPayload is how many bytes a message may carry behind its header.
const MaxPayload = 1 << 20

// headerSize is that of six little-endian words: command, two arguments, length of the payload, checksum, and the command
// with all bits inverted.
const headerSize = 24

// Command tells what a message is for. Its bytes are its name.
type Command uint32

// The commands of adb's protocol that a device without authentication knows.
const (
	Connect Command = 0x4e584e43 // "CNXN": version, greatest payload; payload: banner
	Open    Command = 0x4e45504f // "OPEN": sender's stream, 0; payload: name of the service
	Okay    Command = 0x59414b4f // "OKAY": sender's stream, receiver's stream
	Write   Command = 0x45545257 // "WRTE": sender's stream, receiver's stream; payload: data
	Close   Command = 0x45534c43 // "CLSE": sender's stream or 0, receiver's stream
)

// String returns the four letters of the command.
func (c Command) String() string {
	return string(binary.LittleEndian.AppendUint32(nil, uint32(c)))
}

// Header is the beginning of every message.
type Header struct {
	Command    Command
	Arg0, Arg1 uint32
	Length     uint32 // of the payload, at most MaxPayload
}

// ErrProtocol is the kind of all errors that the other end is to blame for.
var ErrProtocol = errors.New("broken protocol")

// put writes the header to the first headerSize bytes of b.
func (h Header) put(b []byte) {
	for i, word := range [...]uint32{uint32(h.Command), h.Arg0, h.Arg1, h.Length, 0, ^uint32(h.Command)} {
		binary.LittleEndian.PutUint32(b[4*i:], word)
	}
}

// ReadHeader reads a header. The checksum is not looked at, as the version says.
func ReadHeader(r io.Reader) (Header, error) {
	var b [headerSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return Header{}, err
	}
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(b[4*i:]) }
	h := Header{Command: Command(word(0)), Arg0: word(1), Arg1: word(2), Length: word(3)}
	if word(5) != ^word(0) {
		return h, fmt.Errorf("%w: %#x is not the inverse of command %#x", ErrProtocol, word(5), word(0))
	}
	if h.Length > MaxPayload {
		return h, fmt.Errorf("%w: a payload of %d bytes", ErrProtocol, h.Length)
	}
	return h, nil
}

// Append appends a message to b; its length is that of the payload.
func Append(b []byte, h Header, payload []byte) []byte {
	var head [headerSize]byte
	h.Length = uint32(len(payload))
	h.put(head[:])
	return append(append(b, head[:]...), payload...)
}
