package proxyproto

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
)

const (
	signatureV2 = "\r\n\r\n\x00\r\nQUIT\n"
	fixedV2     = 16 // the signature, version and command, family and transport, and the length of what follows

	version2 = 0x20 // high half of the byte of version and command
	local    = 0    // commands
	proxy    = 1

	unspecified = 0x00 // families and transports
	tcp4        = 0x11
	tcp6        = 0x21
	unixStream  = 0x31

	lengthTCP4 = 4 + 4 + 2 + 2
	lengthTCP6 = 16 + 16 + 2 + 2
	lengthUnix = 108 + 108

	typeCRC32C = 0x03
	headerTLV  = 3 // type and length of a TLV
)

// parseV2 reads a binary header.
func parseV2(b []byte) (h Header, n int, err error) {
	if len(b) < fixedV2 {
		return h, 0, beginsAsV2(b)
	}
	if err := beginsAsV2(b); err != nil {
		return h, 0, err
	}
	length := int(binary.BigEndian.Uint16(b[14:]))
	n = fixedV2 + length
	if n > MaxLen {
		return h, 0, malformed("%d bytes are too many", n)
	}
	command, kind := b[12]&0x0f, b[13]
	if command == local {
		kind = unspecified // whatever it says
	}
	addresses, ok := addressLength(kind)
	switch {
	case !ok:
		return h, 0, malformed("family and transport %#02x are no stream's", kind)
	case length < addresses:
		return h, 0, malformed("%d bytes do not hold the addresses", length)
	case len(b) < n:
		return h, 0, ErrShort
	}
	if command == proxy && kind != unspecified {
		if err := checkTLVs(b[:n], fixedV2+addresses); err != nil {
			return h, 0, err
		}
	}
	return readAddresses(kind, b[fixedV2:]), n, nil
}

// beginsAsV2 looks at what there is of the first bytes. nil means that all of them are good.
func beginsAsV2(b []byte) error {
	if len(b) <= 12 {
		return ErrShort
	}
	if v := b[12]; v != version2|local && v != version2|proxy {
		return malformed("version and command %#02x", v)
	}
	if len(b) < fixedV2 {
		return ErrShort
	}
	return nil
}

// addressLength is how long the addresses of a family and transport are; !ok if it is none of a stream.
func addressLength(kind byte) (n int, ok bool) {
	switch kind {
	case unspecified:
		return 0, true
	case tcp4:
		return lengthTCP4, true
	case tcp6:
		return lengthTCP6, true
	case unixStream:
		return lengthUnix, true
	}
	return 0, false
}

// readAddresses reads the addresses of a kind at the beginning of b, if they are internet ones.
func readAddresses(kind byte, b []byte) (h Header) {
	switch kind {
	case tcp4:
		h.Source = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b)), binary.BigEndian.Uint16(b[8:]))
		h.Destination = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:])), binary.BigEndian.Uint16(b[10:]))
	case tcp6:
		h.Source = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)), binary.BigEndian.Uint16(b[32:]))
		h.Destination = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[16:])), binary.BigEndian.Uint16(b[34:]))
	}
	return h
}

// checkTLVs walks over the additions behind the addresses of a header, of which only the checksum is looked at.
func checkTLVs(b []byte, at int) error {
	for at < len(b) {
		if len(b)-at < headerTLV {
			return Malformed("an addition is cut off")
		}
		value := at + headerTLV
		end := value + int(binary.BigEndian.Uint16(b[at+1:]))
		if end > len(b) {
			return Malformed("an addition is longer than the header")
		}
		if b[at] == typeCRC32C && !sumIsRight(b, value, end) {
			return Malformed("its checksum is wrong")
		}
		at = end
	}
	return nil
}

// sumIsRight checks the CRC-32C in b[value:end], which is of the header with zeros in its place.
func sumIsRight(b []byte, value, end int) bool {
	if end-value != crc32.Size {
		return false
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, b[:value])
	sum = crc32.Update(sum, table, make([]byte, crc32.Size))
	sum = crc32.Update(sum, table, b[end:])
	return binary.BigEndian.Uint32(b[value:]) == sum
}

func appendV2(b []byte, h Header) []byte {
	b = append(b, signatureV2...)
	b = append(b, version2|proxy)
	switch {
	case !h.known():
		return append(b, unspecified, 0, 0)
	case h.isIPv4():
		src, dst := h.Source.Addr().As4(), h.Destination.Addr().As4()
		b = append(b, tcp4, 0, lengthTCP4)
		b = append(append(b, src[:]...), dst[:]...)
	default:
		src, dst := h.Source.Addr().As16(), h.Destination.Addr().As16()
		b = append(b, tcp6, 0, lengthTCP6)
		b = append(append(b, src[:]...), dst[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, h.Source.Port())
	return binary.BigEndian.AppendUint16(b, h.Destination.Port())
}
