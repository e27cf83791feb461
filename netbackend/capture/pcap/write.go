package pcap

import (
	"encoding/binary"
	"time"
)

const (
	magic        = 0xa1b2c3d4 // times are in microseconds
	major, minor = 2, 4
	ethernet     = 1 // LINKTYPE_ETHERNET
)

// AppendHeader appends what a file begins with. snapLen is how many bytes of a packet there are at most.
func AppendHeader(b []byte, snapLen int) []byte {
	b = binary.LittleEndian.AppendUint32(b, magic)
	b = binary.LittleEndian.AppendUint16(b, major)
	b = binary.LittleEndian.AppendUint16(b, minor)
	b = binary.LittleEndian.AppendUint64(b, 0) // time zone and accuracy, which nobody sets
	b = binary.LittleEndian.AppendUint32(b, uint32(snapLen))
	return binary.LittleEndian.AppendUint32(b, ethernet)
}

// AppendPacket appends a packet of length bytes, of which data are the first ones.
func AppendPacket(b []byte, at time.Time, length int, data []byte) []byte {
	us := at.UnixMicro()
	b = binary.LittleEndian.AppendUint32(b, uint32(us/1e6))
	b = binary.LittleEndian.AppendUint32(b, uint32(us%1e6))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	b = binary.LittleEndian.AppendUint32(b, uint32(length))
	return append(b, data...)
}
