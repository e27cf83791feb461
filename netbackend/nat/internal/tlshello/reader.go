package tlshello

import "encoding/binary"

// MaxLen is how long a hello may be with the headers of its records, in bytes.
const MaxLen = 16 << 10

const (
	recordHeader    = 5
	handshakeHeader = 4
	maxRecord       = 1 << 14 // RFC 8446 section 5.1

	recordChangeCipherSpec = 20
	recordAlert            = 21
	recordHandshake        = 22
	recordData             = 23
)

// Reader finds the ClientHello at the beginning of a stream. The zero value stands at its beginning.
type Reader struct {
	next  int // where the next record begins
	found int // bytes of the handshake message that stand before it
}

// Read looks at all bytes of the stream up to now, at most MaxLen of them. It returns how many of them are the records with the
// hello, 0 if more are needed. Bytes of before must be the same as then. After an error the Reader is of no use.
func (r *Reader) Read(stream []byte) (h Hello, n int, err error) {
	if len(stream) > MaxLen {
		return Hello{}, 0, ErrTooLong
	}
	for {
		end, err := handshakeRecord(stream, r.next)
		if err == errShortRecord {
			return Hello{}, 0, r.checkPart(stream)
		}
		if err != nil {
			return Hello{}, 0, err
		}
		r.found += end - r.next - recordHeader
		r.next = end
		switch whole := r.messageLen(stream); {
		case whole > MaxLen:
			return Hello{}, 0, ErrTooLong
		case whole == 0 || r.found < whole:
		case r.found > whole:
			return Hello{}, 0, ErrMalformed // what follows a hello does not share its record (RFC 8446 section 5.1)
		default:
			if h, err = Parse(r.message(stream)); err != nil {
				return Hello{}, 0, err
			}
			return h, r.next, nil
		}
	}
}

// checkPart looks at a record that is not complete, for nobody needs to wait for what cannot become a hello.
func (r *Reader) checkPart(stream []byte) error {
	if part := stream[r.next:]; r.found == 0 && len(part) > recordHeader && part[recordHeader] != typeClientHello {
		return ErrNotTLS
	}
	if len(stream) == MaxLen {
		return ErrTooLong
	}
	return nil
}

// messageLen returns the length of the handshake message with its header, 0 if it is not known yet.
func (r *Reader) messageLen(stream []byte) int {
	if r.found < handshakeHeader {
		return 0
	}
	var header [handshakeHeader]byte
	copyRecords(header[:], stream)
	return handshakeHeader + int(header[1])<<16 + int(header[2])<<8 + int(header[3])
}

// message returns the handshake message without the headers of records.
func (r *Reader) message(stream []byte) []byte {
	if r.found+recordHeader == r.next {
		return stream[recordHeader:r.next]
	}
	b := make([]byte, r.found)
	copyRecords(b, stream)
	return b
}

// copyRecords fills b with what is in the records of a stream, which has enough.
func copyRecords(b, stream []byte) {
	for len(b) > 0 {
		n := int(binary.BigEndian.Uint16(stream[3:]))
		copied := copy(b, stream[recordHeader:recordHeader+n])
		b, stream = b[copied:], stream[recordHeader+n:]
	}
}

// handshakeRecord returns the end of the record at a place of a stream. The error tells that it can be no part of a hello, or that it is
// not complete.
func handshakeRecord(stream []byte, at int) (end int, err error) {
	part := stream[at:]
	if len(part) > 0 && part[0] != recordHandshake {
		return 0, ErrNotTLS // an SSL 2.0 hello has the highest bit set here
	}
	if len(part) > 1 && part[1] != 3 || len(part) > 2 && part[2] > 4 {
		return 0, ErrNotTLS
	}
	if len(part) < recordHeader {
		return 0, errShortRecord
	}
	n := int(binary.BigEndian.Uint16(part[3:]))
	if n == 0 || n > maxRecord {
		return 0, ErrMalformed
	}
	end = at + recordHeader + n
	if end > MaxLen {
		return 0, ErrTooLong
	}
	if end > len(stream) {
		return 0, errShortRecord
	}
	return end, nil
}
