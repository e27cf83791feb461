package wire

import (
	"encoding/binary"
	"fmt"
)

// AppendU64 appends a reply that carries one number: the answer to a GET_ message, or an acknowledgement (REPLY_ACK),
// where 0 means success. The front end expects exactly these flags and this size; anything else would shift the stream.
func AppendU64(b []byte, r Request, value uint64) []byte {
	b = appendHeader(b, r, version|flagReply, 8)
	return appendUint64s(b, value)
}

// AppendState appends the reply to GET_VRING_BASE.
func AppendState(b []byte, r Request, ring, num uint32) []byte {
	b = appendHeader(b, r, version|flagReply, 8)
	return appendUint32s(b, ring, num)
}

// ReplySize is the size of every reply, header included.
const ReplySize = HeaderSize + 8

// Reply is what a back end answers.
type Reply struct {
	Request Request
	Value   uint64 // ring index in the low and its base in the high half for GET_VRING_BASE
}

// DecodeReply decodes a reply of ReplySize bytes: the front end's side. The error wraps ErrFraming.
func DecodeReply(b []byte) (Reply, error) {
	r := Reply{Request: Request(binary.LittleEndian.Uint32(b))}
	if flags := binary.LittleEndian.Uint32(b[4:]); flags != version|flagReply {
		return r, fmt.Errorf("%w: reply to %v has flags %#x", ErrFraming, r.Request, flags)
	}
	if size := binary.LittleEndian.Uint32(b[8:]); size != 8 {
		return r, fmt.Errorf("%w: reply to %v has a payload of %d bytes", ErrFraming, r.Request, size)
	}
	r.Value = binary.LittleEndian.Uint64(b[HeaderSize:])
	return r, nil
}
