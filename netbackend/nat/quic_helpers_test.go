package nat_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"

	mdns "github.com/miekg/dns"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/audit"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/netbackend/services/dns"
)

// Versions of QUIC.
const (
	quic1 = 1
	quic2 = 0x6b3343cf
)

// quicClient makes packets of a connection of QUIC, by RFC 9000, 9001 and 9369.
type quicClient struct {
	t       testing.TB
	version uint32
	id      string // keys come from it
	to      string // that packets are sent to
	number  uint32 // of the next packet
	first   byte   // bits that are cleared in the first byte
}

func newQUICClient(t testing.TB, id string) *quicClient {
	return &quicClient{t: t, version: quic1, id: id, to: id}
}

// secrets are key, IV and key of header protection.
func (c *quicClient) secrets() (key, iv, header []byte) {
	salt, prefix := "\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a", "quic "
	if c.version == quic2 {
		salt, prefix = "\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d\xcb\xf9\xbd\x2e\xd9", "quicv2 "
	}
	expand := func(secret []byte, label string, n int) []byte {
		label = "tls13 " + label
		out, err := hkdf.Expand(sha256.New, secret, "\x00"+string([]byte{byte(n), byte(len(label))})+label+"\x00", n)
		require.NoError(c.t, err)
		return out
	}
	initial, err := hkdf.Extract(sha256.New, []byte(c.id), []byte(salt))
	require.NoError(c.t, err)
	secret := expand(initial, "client in", 32)
	return expand(secret, prefix+"key", 16), expand(secret, prefix+"iv", 12), expand(secret, prefix+"hp", 16)
}

// initial is an Initial packet with frames.
func (c *quicClient) initial(frames ...[]byte) []byte {
	key, iv, protect := c.secrets()
	all := slices.Concat(frames...)
	all = append(all, make([]byte, max(0, 30-len(all)))...)
	kind := byte(0)
	if c.version == quic2 {
		kind = 0x10
	}
	b := binary.BigEndian.AppendUint32([]byte{(0xc3 | kind) &^ c.first}, c.version)
	b = append(append(b, byte(len(c.to))), c.to...)
	b = append(b, 0, 0) // no identifier of its own, no token
	b = binary.BigEndian.AppendUint16(b, 0x4000|uint16(4+len(all)+16))
	at := len(b)
	b = binary.BigEndian.AppendUint32(b, c.number)
	for i := range 4 {
		iv[8+i] ^= b[at+i]
	}
	c.number++
	block, err := aes.NewCipher(key)
	require.NoError(c.t, err)
	seal, err := cipher.NewGCM(block)
	require.NoError(c.t, err)
	b = seal.Seal(b, iv, all, b)
	block, err = aes.NewCipher(protect)
	require.NoError(c.t, err)
	var mask [16]byte
	block.Encrypt(mask[:], b[at+4:at+20])
	b[0] ^= mask[0] & 0x0f
	for i := range 4 {
		b[at+i] ^= mask[1+i]
	}
	return b
}

// long is a packet with a long header of another kind: 1 is early data, 2 a Handshake packet. It is of version 1.
func (c *quicClient) long(kind byte, content string) []byte {
	b := append([]byte{0xc0 | kind<<4, 0, 0, 0, 1, byte(len(c.to))}, c.to...)
	return append(append(b, 0, byte(len(content))), content...)
}

// cryptoFrame is a CRYPTO frame with bytes [from, to) of a message.
func cryptoFrame(message []byte, from, to int) []byte {
	b := binary.BigEndian.AppendUint32([]byte{6}, 0x80000000|uint32(from))
	b = binary.BigEndian.AppendUint16(b, 0x4000|uint16(to-from))
	return append(b, message[from:to]...)
}

// quicHello is a ClientHello for a name, with other extensions before it and behind it.
func quicHello(name string, before, behind int) []byte {
	padding := func(kind byte, n int) []byte {
		return append([]byte{0x7f, kind, byte(n >> 8), byte(n)}, make([]byte, n)...)
	}
	var extensions []byte
	extensions = append(extensions, padding(1, before)...)
	if name != "" {
		extensions = append(extensions, 0, 0, 0, byte(len(name)+5), 0, byte(len(name)+3), 0, 0, byte(len(name)))
		extensions = append(extensions, name...)
	}
	extensions = append(extensions, padding(2, behind)...)
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0, 0, 2, 0x13, 1, 1, 0, byte(len(extensions)>>8), byte(len(extensions)))
	body = append(body, extensions...)
	return append([]byte{1, 0, byte(len(body) >> 8), byte(len(body))}, body...)
}

// whole is a datagram with a hello for a name.
func (c *quicClient) whole(name string) []byte {
	m := quicHello(name, 0, 0)
	return c.initial(cryptoFrame(m, 0, len(m)))
}

// quicBench is a guest under rules by name, beside a server of QUIC at an address that is not the host's.
type quicBench struct {
	*bench
	host *net.UDPConn
	log  *audit.Recorder
	port uint16 // of the guest
}

// quicServer is where the server is. All names have its address, but for elsewhere.example.
const quicServer = "198.51.100.1:443"

// newQUIC is for tests in a namespace. texts are rules, with "+" or "-" before each, as options take them.
func newQUIC(t *testing.T, change func(*nat.Config), texts ...string) *quicBench {
	t.Helper()
	host, config, log := quicWorld(t, change, texts...)
	b := &quicBench{bench: newAsking(t, setup{config: config}), host: host, log: log, port: 5000}
	b.lookUpAll()
	return b
}

// quicWorld makes the server and the resolver, and returns what a guest is configured by.
func quicWorld(t *testing.T, change func(*nat.Config), texts ...string) (*net.UDPConn, func(*nat.Config), *audit.Recorder) {
	t.Helper()
	host, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at(quicServer)))
	if err != nil {
		address(t, up(t, "lo"), "198.51.100.1/32") // for the first in the namespace
		host, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at(quicServer)))
	}
	require.NoError(t, err)
	t.Cleanup(func() { _ = host.Close() })
	require.NoError(t, host.SetReadBuffer(4<<20))
	r := newResolver(t, "127.0.0.1", func(query []byte) [][]byte {
		if len(query) > 13 && string(query[13:22]) == "elsewhere" {
			return [][]byte{withAddress(query, 198, 51, 100, 2)}
		}
		return [][]byte{withAddress(query, 198, 51, 100, 1)}
	})
	log := audit.NewRecorder(1024, make(chan struct{}, 1), nil)
	return host, func(c *nat.Config) {
		quicRules(t, texts...)(c)
		c.Routes, c.Resolvers = routesElsewhere, dns.Plain(r.addr)
		c.Audit = func() *audit.Recorder { return log }
		if change != nil {
			change(c)
		}
	}, log
}

// quicRules restricts a guest to rules by name.
func quicRules(t *testing.T, texts ...string) func(*nat.Config) {
	return func(c *nat.Config) {
		c.Restrict = true
		for _, text := range texts {
			rule, err := spec.ParseNameRule(text[1:], text[0] == '+')
			require.NoError(t, err)
			c.Rules = append(c.Rules, rule)
		}
	}
}

// from is where the guest sends from.
func (b *quicBench) from() netip.AddrPort { return netip.AddrPortFrom(b.IP, b.port) }

// usual are the rules of most tests.
var usual = []string{"+good.example:443;quic=verify", "+also.example:443;quic=verify", "+elsewhere.example:443;quic=verify", "+tcp.example:443"}

// lookUpAll has the guest ask for all names.
func (b *quicBench) lookUpAll() {
	for i, name := range []string{"good.example.", "also.example.", "elsewhere.example.", "tcp.example.", "bad.example."} {
		b.named(uint16(3000+i), name, mdns.TypeA)
	}
	b.entries()
}

// send sends datagrams from a port of the guest, and has all be done that follows.
func (b *quicBench) send(datagrams ...[]byte) {
	for _, d := range datagrams {
		b.SendDatagram(porttest.Datagram{Src: b.from(), Dst: at(quicServer), Payload: d})
	}
	b.Settle()
}

// got returns what has arrived at the server.
func (b *quicBench) got() (all [][]byte) {
	b.t.Helper()
	raw, err := b.host.SyscallConn()
	require.NoError(b.t, err)
	require.NoError(b.t, raw.Read(func(fd uintptr) bool {
		for {
			buffer := make([]byte, 1<<16)
			n, _, err := unix.Recvfrom(int(fd), buffer, unix.MSG_DONTWAIT)
			if err != nil {
				return true
			}
			all = append(all, buffer[:n])
		}
	}))
	return all
}

// requireGot checks what has arrived at the server.
func (b *quicBench) requireGot(want ...[]byte) {
	b.t.Helper()
	got := b.got()
	require.Len(b.t, got, len(want))
	for i := range want {
		require.True(b.t, bytes.Equal(want[i], got[i]), "datagram %d", i)
	}
}

// entries returns what is new in the audit log.
func (b *quicBench) entries() []audit.Entry { return recordedAll(b.log) }

func recordedAll(log *audit.Recorder) (all []audit.Entry) {
	for {
		into := make([]audit.Entry, 64)
		n := log.Take(into)
		if n == 0 {
			return all
		}
		all = append(all, into[:n]...)
	}
}

// refusals returns what the audit log has of refusals.
func (b *quicBench) refusals() (all []audit.Entry) {
	for _, e := range b.entries() {
		if e.Kind == audit.Refused {
			all = append(all, e)
		}
	}
	return all
}

// held is of how many associations something is kept.
func (b *quicBench) held() int {
	n, _ := nat.HeldByQUIC(b.bench.port)
	return n
}

func (b *quicBench) counters() nat.Counters { return b.bench.port.Counters() }

// associations are those to the server.
func (b *quicBench) associations() (n int) {
	for _, f := range b.bench.port.Snapshot(b.Now()).Flows {
		if f.Remote == at(quicServer) {
			n++
		}
	}
	return n
}
