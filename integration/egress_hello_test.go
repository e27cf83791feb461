package integration

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// Records and messages of TLS.
const (
	recordHeader   = 5
	messageHeader  = 4
	serverNameType = 0
)

// clientHello returns the first record that Go's client sends for a name, with what edit makes of its server_name extension; nil leaves
// that as it is.
func clientHello(t *testing.T, config *tls.Config, edit func(extension []byte) []byte) string {
	t.Helper()
	client, server := net.Pipe()
	defer server.Close()
	go func() {
		_ = tls.Client(client, config).Handshake()
		client.Close()
	}()
	record := make([]byte, recordHeader)
	_, err := io.ReadFull(server, record)
	require.NoError(t, err)
	message := make([]byte, binary.BigEndian.Uint16(record[3:]))
	_, err = io.ReadFull(server, message)
	require.NoError(t, err)
	if edit != nil {
		message = editName(t, message, edit)
	}
	return string(asRecords(message, len(message)))
}

// asRecords puts a message into records of so many bytes.
func asRecords(message []byte, size int) (records []byte) {
	for len(message) > 0 {
		n := min(size, len(message))
		records = append(records, 0x16, 3, 1)
		records = append(binary.BigEndian.AppendUint16(records, uint16(n)), message[:n]...)
		message = message[n:]
	}
	return records
}

// messageOf returns the message in a record.
func messageOf(record string) []byte { return []byte(record[recordHeader:]) }

// editName replaces the extension with the server's name in a ClientHello by what edit returns for it, header included.
func editName(t *testing.T, message []byte, edit func([]byte) []byte) []byte {
	t.Helper()
	at := messageHeader + 2 + 32
	at += 1 + int(message[at])                           // session
	at += 2 + int(binary.BigEndian.Uint16(message[at:])) // cipher suites
	at += 1 + int(message[at])                           // compression
	extensions := append([]byte(nil), message[at+2:]...)
	var edited []byte
	for len(extensions) > 0 {
		n := 4 + int(binary.BigEndian.Uint16(extensions[2:]))
		extension := extensions[:n]
		if binary.BigEndian.Uint16(extension) == serverNameType {
			extension = edit(extension)
		}
		edited, extensions = append(edited, extension...), extensions[n:]
	}
	message = binary.BigEndian.AppendUint16(append([]byte(nil), message[:at]...), uint16(len(edited)))
	message = append(message, edited...)
	n := len(message) - messageHeader
	message[1], message[2], message[3] = byte(n>>16), byte(n>>8), byte(n)
	return message
}

// nameExtension is a server_name extension with names in one list.
func nameExtension(names ...string) (extension []byte) {
	var list []byte
	for _, name := range names {
		list = append(binary.BigEndian.AppendUint16(append(list, 0), uint16(len(name))), name...)
	}
	extension = binary.BigEndian.AppendUint16([]byte{0, serverNameType}, uint16(2+len(list)))
	return append(binary.BigEndian.AppendUint16(extension, uint16(len(list))), list...)
}

// named returns an edit that puts extensions in the place of the name's.
func named(extensions ...[]byte) func([]byte) []byte {
	return func([]byte) (all []byte) {
		for _, e := range extensions {
			all = append(all, e...)
		}
		return all
	}
}

// echConfigs is a list of one configuration for Encrypted Client Hello, with a name that all can see.
func echConfigs(t *testing.T, public string) []byte {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	require.NoError(t, err)
	contents := append([]byte{7}, 0, 0x20, 0, 32) // identifier, DHKEM(X25519, HKDF-SHA256), the key's length
	contents = append(contents, key.PublicKey().Bytes()...)
	contents = append(contents, 0, 4, 0, 1, 0, 1, 64, byte(len(public))) // HKDF-SHA256 with AES-128-GCM, the longest name
	contents = append(append(contents, public...), 0, 0)
	config := append(binary.BigEndian.AppendUint16([]byte{0xfe, 0x0d}, uint16(len(contents))), contents...)
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(config))), config...)
}

// Versions of QUIC.
const (
	quic1 = 1
	quic2 = 0x6b3343cf
)

// quicInitial returns the datagrams with which a client of QUIC begins, for a name (RFC 9001, section 5.2, and RFC 9369).
func quicInitial(t *testing.T, version uint32, name string) (datagrams []string) {
	t.Helper()
	connection := make([]byte, 8)
	_, err := rand.Read(connection)
	require.NoError(t, err)
	return initialsOf(t, version, connection, quicHello(t, quicConfig(name)))
}

// quicConfig is that of a client of QUIC for a name.
func quicConfig(name string) *tls.Config {
	return &tls.Config{ServerName: name, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{"h3"}}
}

// quicHello returns the ClientHello of a client of QUIC.
func quicHello(t *testing.T, config *tls.Config) (hello []byte) {
	t.Helper()
	c := tls.QUICClient(&tls.QUICConfig{TLSConfig: config})
	defer c.Close()
	c.SetTransportParameters([]byte{1, 2, 0x40, 0x64})
	require.NoError(t, c.Start(t.Context()))
	for e := c.NextEvent(); e.Kind != tls.QUICNoEvent; e = c.NextEvent() {
		if e.Kind == tls.QUICWriteData {
			hello = append(hello, e.Data...)
		}
	}
	return hello
}

// initialsOf returns the datagrams with a hello, for a connection whose client has chosen its identifier.
func initialsOf(t *testing.T, version uint32, connection, hello []byte) (datagrams []string) {
	t.Helper()
	const most = 1000 // bytes of the hello in a datagram
	for number := 0; len(hello) > number*most; number++ {
		datagrams = append(datagrams, initialOf(t, version, connection, number, hello, number*most, min(len(hello), number*most+most)))
	}
	return datagrams
}

// initialOf returns a datagram with the bytes of a hello from one up to another.
func initialOf(t *testing.T, version uint32, connection []byte, number int, hello []byte, from, to int) string {
	t.Helper()
	frame := binary.BigEndian.AppendUint32([]byte{6}, 0x80000000|uint32(from))
	frame = append(binary.BigEndian.AppendUint16(frame, 0x4000|uint16(to-from)), hello[from:to]...)
	return string(sealInitial(t, version, connection, number, frame))
}

// sealInitial makes a datagram of 1200 bytes with one Initial packet.
func sealInitial(t *testing.T, version uint32, connection []byte, number int, frames []byte) []byte {
	t.Helper()
	const size, tag, numberLen = 1200, 16, 4
	salt, prefix, first := []byte{0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a}, "quic ", byte(0xc3)
	if version == quic2 {
		salt, prefix, first = []byte{0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d, 0xcb, 0xf9, 0xbd, 0x2e, 0xd9}, "quicv2 ", 0xd3
	}
	initial, err := hkdf.Extract(sha256.New, connection, salt)
	require.NoError(t, err)
	secret := expandLabel(t, initial, "client in", 32)
	key, iv, mask := expandLabel(t, secret, prefix+"key", 16), expandLabel(t, secret, prefix+"iv", 12), expandLabel(t, secret, prefix+"hp", 16)

	header := binary.BigEndian.AppendUint32([]byte{first}, version)
	header = append(append(header, byte(len(connection))), connection...)
	header = append(header, 0, 0) // no identifier of the client's, no token
	header = binary.BigEndian.AppendUint16(header, 0x4000|uint16(size-len(header)-2))
	at := len(header)
	header = binary.BigEndian.AppendUint32(header, uint32(number))
	frames = append(frames, make([]byte, size-len(header)-tag-len(frames))...) // PADDING
	for i := range numberLen {
		iv[len(iv)-1-i] ^= byte(number >> (8 * i))
	}
	block, err := aes.NewCipher(key)
	require.NoError(t, err)
	aead, err := cipher.NewGCM(block)
	require.NoError(t, err)
	packet := aead.Seal(header, iv, frames, header)
	protect, err := aes.NewCipher(mask)
	require.NoError(t, err)
	sample := make([]byte, aes.BlockSize)
	protect.Encrypt(sample, packet[at+numberLen:at+numberLen+aes.BlockSize])
	packet[0] ^= sample[0] & 0x0f
	for i := range numberLen {
		packet[at+i] ^= sample[1+i]
	}
	return packet
}

// expandLabel is HKDF-Expand-Label of TLS 1.3, without a context.
func expandLabel(t *testing.T, secret []byte, label string, n int) []byte {
	t.Helper()
	label = "tls13 " + label
	info := append([]byte{byte(n >> 8), byte(n), byte(len(label))}, label...)
	out, err := hkdf.Expand(sha256.New, secret, string(append(info, 0)), n)
	require.NoError(t, err)
	return out
}
