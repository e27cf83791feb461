package quichello

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
)

// Versions of QUIC that are read.
const (
	version1 = 0x00000001
	version2 = 0x6b3343cf
)

// keys protect the Initial packets of a client (RFC 9001 section 5).
type keys struct {
	seal   cipher.AEAD
	header cipher.Block // of header protection
	iv     [12]byte
}

// newKeys derives them from the identifier that the client's first packet, or the one behind a Retry, is sent to.
func newKeys(version uint32, destination []byte) (k *keys, err error) {
	salt, prefix := saltOf(version)
	initial, err := hkdf.Extract(sha256.New, destination, salt)
	if err != nil {
		return nil, err
	}
	secret, err := expand(initial, "client in", sha256.Size)
	if err != nil {
		return nil, err
	}
	key, err1 := expand(secret, prefix+" key", 16)
	iv, err2 := expand(secret, prefix+" iv", 12)
	header, err3 := expand(secret, prefix+" hp", 16)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	k = &keys{iv: [12]byte(iv)}
	block, err1 := aes.NewCipher(key)
	k.header, err2 = aes.NewCipher(header)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	k.seal, err = cipher.NewGCM(block)
	return k, err
}

// saltOf returns the salt of a version's secrets, and how its labels begin.
func saltOf(version uint32) (salt []byte, prefix string) {
	if version == version2 { // RFC 9369 section 3.3
		return []byte{0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d, 0xcb, 0xf9, 0xbd, 0x2e, 0xd9}, "quicv2"
	}
	return []byte{0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a}, "quic" // RFC 9001 section 5.2
}

// expand is HKDF-Expand-Label with an empty context (RFC 8446 section 7.1).
func expand(secret []byte, label string, n int) ([]byte, error) {
	label = "tls13 " + label
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(info, byte(len(label)))
	info = append(info, label...)
	return hkdf.Expand(sha256.New, secret, string(append(info, 0)), n)
}

// open removes the protection of a packet, whose packet number stands at a place, and returns its frames and number. It changes neither
// the packet nor k. expected is the number that would come next.
func (k *keys) open(p []byte, at int, expected uint64) (frames []byte, number uint64, ok bool) {
	const sample, longest = 16, 4 // RFC 9001 section 5.4.2
	if len(p) < at+longest+sample {
		return nil, 0, false
	}
	var mask [aes.BlockSize]byte
	k.header.Encrypt(mask[:], p[at+longest:at+longest+sample])
	first := p[0] ^ mask[0]&0x0f
	n := int(first&3) + 1
	header := append([]byte(nil), p[:at+n]...)
	header[0] = first
	var truncated uint64
	for i := range n {
		header[at+i] ^= mask[1+i]
		truncated = truncated<<8 | uint64(header[at+i])
	}
	number = expandNumber(truncated, uint(8*n), expected)
	nonce := k.iv
	for i := range 8 {
		nonce[4+i] ^= byte(number >> (56 - 8*i))
	}
	frames, err := k.seal.Open(nil, nonce[:], p[at+n:], header)
	return frames, number, err == nil
}

// expandNumber returns the packet number whose lowest bits are these (RFC 9000 appendix A.3).
func expandNumber(truncated uint64, bits uint, expected uint64) uint64 {
	window := uint64(1) << bits
	candidate := expected&^(window-1) | truncated
	switch {
	case candidate+window/2 <= expected && candidate < 1<<62-window:
		return candidate + window
	case candidate > expected+window/2 && candidate >= window:
		return candidate - window
	}
	return candidate
}
