package quichello

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/tls"
	"embed"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/quic"

	"github.com/vringnet/vring/netbackend/nat/internal/tlshello"
)

//go:embed testdata/*.hex
var vectors embed.FS

// unhex reads a file of test data.
func unhex(t testing.TB, name string) []byte {
	text, err := vectors.ReadFile("testdata/" + name)
	require.NoError(t, err)
	b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	require.NoError(t, err)
	return b
}

func TestKeysAreThoseOfTheRFCs(t *testing.T) {
	destination := []byte("\x83\x94\xc8\xf0\x3e\x51\x57\x08")
	for version, want := range map[uint32][2]string{
		version1: {"c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea", "fa044b2f42a3fd3b46fb255c"}, // RFC 9001 appendix A.1
		version2: {"14ec9d6eb9fd7af83bf5a668bc17a7e283766aade7ecd0891f70f9ff7f4bf47b", "91f73e2351d8fa91660e909f"}, // RFC 9369 appendix A.1
	} {
		k, err := newKeys(version, destination)
		require.NoError(t, err)
		require.Equal(t, want[1], hex.EncodeToString(k.iv[:]))
	}
}

func TestTheInitialPacketsOfTheRFCsAreRead(t *testing.T) {
	for _, name := range []string{"rfc9001_a2.hex", "rfc9369_a2.hex"} {
		b := unhex(t, name)
		require.Len(t, b, 1200)
		c, h, err := new(Reader).Read(b)
		require.NoError(t, err, name)
		require.Equal(t, Hello, c)
		require.Equal(t, tlshello.Hello{Name: "example.com"}, h)
		for i := range b {
			spoilt := slices.Clone(b)
			spoilt[i] ^= 0x10
			_, _, err := new(Reader).Read(spoilt)
			if i == 0 || i == 5 || i == 14 {
				continue // it is another kind of packet, or has identifiers of other lengths
			}
			require.Error(t, err, "%s, byte %d", name, i)
		}
	}
}

// client makes Initial packets.
type client struct {
	t       testing.TB
	version uint32
	id      []byte // keys come from it
	to      []byte // that packets are sent to
	number  uint64
	cleared byte // bits of the first byte
}

func newClient(t testing.TB, version uint32, id string) *client {
	return &client{t: t, version: version, id: []byte(id), to: []byte(id)}
}

// packet is one with frames.
func (c *client) packet(frames []byte) []byte { return c.packetOf(frames, 4) }

// packetOf is one whose packet number has so many bytes.
func (c *client) packetOf(frames []byte, numberLen int) []byte {
	k, err := newKeys(c.version, c.id)
	require.NoError(c.t, err)
	frames = append(slices.Clone(frames), make([]byte, max(0, 24-len(frames)))...)
	first := byte(0xc0)
	if c.version == version2 {
		first = 0xd0
	}
	b := binary.BigEndian.AppendUint32([]byte{(first | byte(numberLen-1)) &^ c.cleared}, c.version)
	b = append(b, byte(len(c.to)))
	b = append(b, c.to...)
	b = append(b, 0, 3, 't', 'o', 'k')
	b = binary.BigEndian.AppendUint16(b, 0x4000|uint16(numberLen+len(frames)+16))
	at := len(b)
	for i := range numberLen {
		b = append(b, byte(c.number>>(8*(numberLen-1-i))))
	}
	nonce := k.iv
	for i := range 8 {
		nonce[4+i] ^= byte(c.number >> (56 - 8*i))
	}
	b = seal(k.seal, nonce[:], b, frames)
	var mask [16]byte
	k.header.Encrypt(mask[:], b[at+4:at+20])
	b[0] ^= mask[0] & 0x0f
	for i := range numberLen {
		b[at+i] ^= mask[1+i]
	}
	c.number++
	return b
}

func seal(a cipher.AEAD, nonce, header, frames []byte) []byte {
	return a.Seal(slices.Clone(header), nonce, frames, header)
}

// crypto is a CRYPTO frame.
func crypto(offset int, data []byte) []byte {
	b := []byte{6}
	b = binary.BigEndian.AppendUint32(b, 0x80000000|uint32(offset))
	b = binary.BigEndian.AppendUint16(b, 0x4000|uint16(len(data)))
	return append(b, data...)
}

// hello is a ClientHello with a name, and padding of so many bytes.
func hello(name string, padding int) []byte {
	list := append([]byte{0, 0, byte(len(name))}, name...)
	extension := append([]byte{0, 0, 0, byte(len(list) + 2), 0, byte(len(list))}, list...)
	extension = append(extension, 0, 21, byte(padding>>8), byte(padding))
	extension = append(extension, make([]byte, padding)...)
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0, 0, 2, 0x13, 1, 1, 0, byte(len(extension)>>8), byte(len(extension)))
	body = append(body, extension...)
	return append([]byte{1, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
}

func versions() []uint32 { return []uint32{version1, version2} }

func TestAHelloMayBeShuffledOverDatagrams(t *testing.T) {
	for _, version := range versions() {
		m := hello("a.example", 3000)
		cl := newClient(t, version, "12345678")
		datagrams := [][]byte{
			cl.packet(slices.Concat(crypto(2500, m[2500:]), []byte{1, 0, 0}, crypto(700, m[700:900]))),
			cl.packet(slices.Concat(crypto(3, m[3:500]), crypto(800, m[800:1800]))), // which overlaps
			cl.packet(slices.Concat(crypto(1800, m[1800:2500]), crypto(0, m[:2]))),
			cl.packet(slices.Concat(crypto(2, m[2:3]), crypto(500, m[500:700]))),
		}
		var r Reader
		for i, d := range datagrams {
			c, h, err := r.Read(d)
			require.NoError(t, err)
			if i < 3 {
				require.Equal(t, Part, c, i)
				continue
			}
			require.Equal(t, Hello, c)
			require.Equal(t, "a.example", h.Name)
		}
		c, _, err := r.Read(datagrams[0])
		require.NoError(t, err)
		require.Equal(t, Repeat, c)
	}
}

func TestPacketNumbersOfAnyLengthAreRead(t *testing.T) {
	for n := 1; n <= 4; n++ {
		cl := newClient(t, version1, "12345678")
		var r Reader
		for i := range 600 {
			_, _, err := r.Read(cl.packetOf([]byte{1}, max(n, 1+min(1, i/200))))
			require.NoError(t, err, "number %d", i)
		}
	}
	require.EqualValues(t, 0xa82f9b32, expandNumber(0x9b32, 16, 0xa82f30eb)) // RFC 9000 appendix A.3
}

func TestARetryOrAnotherVersionBeginsAnew(t *testing.T) {
	m := hello("a.example", 0)
	first := newClient(t, version1, "12345678")
	retried := newClient(t, version1, "from the server")
	retried.number = 1
	other := newClient(t, version2, "another one")
	var r Reader
	for i, cl := range []*client{first, retried, other} {
		half := cl.packet(crypto(0, m[:20]))
		c, _, err := r.Read(half)
		require.NoError(t, err, i)
		require.Equal(t, Part, c, i)
		c, h, err := r.Read(cl.packet(crypto(20, m[20:])))
		require.NoError(t, err)
		require.Equal(t, Hello, c)
		require.Equal(t, "a.example", h.Name)
	}
}

func TestAServerThatAnswersByAnotherVersionChangesTheKeys(t *testing.T) {
	m := hello("a.example", 0)
	cl := newClient(t, version1, "12345678")
	var r Reader
	_, _, err := r.Read(cl.packet(crypto(0, m)))
	require.NoError(t, err)
	cl.version, cl.to = version2, []byte("of the server")
	c, _, err := r.Read(cl.packet([]byte{2, 1, 0, 0, 0}))
	require.NoError(t, err)
	require.Equal(t, Repeat, c)
}

func TestASecondHelloIsRead(t *testing.T) {
	one, two := hello("a.example", 0), hello("b.example", 0)
	cl := newClient(t, version1, "12345678")
	var r Reader
	_, h, err := r.Read(cl.packet(crypto(0, one)))
	require.NoError(t, err)
	require.Equal(t, "a.example", h.Name)
	cl.to = []byte("of the server") // keys stay those of the first
	c, _, err := r.Read(cl.packet(crypto(len(one), two[:9])))
	require.NoError(t, err)
	require.Equal(t, Part, c)
	c, _, err = r.Read(cl.packet(crypto(len(one), two[:9])))
	require.NoError(t, err)
	require.Equal(t, Part, c, "what was there before is no part of what may pass")
	c, h, err = r.Read(cl.packet(crypto(len(one)+9, two[9:])))
	require.NoError(t, err)
	require.Equal(t, Hello, c)
	require.Equal(t, "b.example", h.Name)
}

func TestTwoNamesInOneDatagramContradictEachOther(t *testing.T) {
	one, two := hello("a.example", 0), hello("b.example", 0)
	both := slices.Concat(crypto(0, one), crypto(len(one), two))
	cl := newClient(t, version1, "12345678")
	_, _, err := new(Reader).Read(cl.packet(both))
	require.ErrorIs(t, err, ErrConflict)
	apart := slices.Concat(cl.packet(crypto(0, one)), cl.packet(crypto(len(one), two)))
	_, _, err = new(Reader).Read(apart)
	require.ErrorIs(t, err, ErrConflict)
	same := slices.Concat(crypto(0, one), crypto(len(one), one))
	c, h, err := new(Reader).Read(cl.packet(same))
	require.NoError(t, err)
	require.Equal(t, Hello, c)
	require.Equal(t, "a.example", h.Name)
}

func TestWhatWasReadDoesNotBecomeSomethingElse(t *testing.T) {
	one, other := hello("a.example", 100), hello("b.example", 100)
	cl := newClient(t, version1, "12345678")
	for what, second := range map[string][]byte{
		"all":              crypto(0, other),
		"a part":           crypto(50, other[50:60]),
		"behind its begin": crypto(40, other[40:]),
	} {
		var r Reader
		_, _, err := r.Read(cl.packet(crypto(0, one)))
		require.NoError(t, err)
		_, _, err = r.Read(cl.packet(second))
		require.ErrorIs(t, err, ErrConflict, what)
		_, _, err = r.Read(cl.packet([]byte{1}))
		require.ErrorIs(t, err, ErrConflict, "nothing of that connection goes on")
	}
}

func TestARefusedHelloStaysRefused(t *testing.T) {
	cl := newClient(t, version1, "12345678")
	var r Reader
	m := hello("192.0.2.1", 0)
	for range 3 {
		_, _, err := r.Read(cl.packet(crypto(0, m)))
		require.Error(t, err)
	}
}

func TestPacketsThatLieAreRefused(t *testing.T) {
	m := hello("a.example", 0)
	good := newClient(t, version1, "12345678").packet(crypto(0, m))
	change := func(at int, b byte) []byte {
		c := slices.Clone(good)
		c[at] = b
		return c
	}
	seal := func(frames ...byte) []byte { return newClient(t, version1, "12345678").packet(frames) }
	for what, c := range map[string]struct {
		datagram []byte
		want     error
	}{
		"no fixed bit, and no reason": {change(0, good[0]&^0x40), ErrKeys},
		"a short one":                 {[]byte{0xc0, 0, 0, 0, 1, 0}, ErrNotQUIC},
		"version negotiation":         {change(4, 0), ErrVersion},
		"a draft":                     {append([]byte{0xc0, 0xff, 0, 0, 29}, good[5:]...), ErrVersion},
		"a Retry":                     {change(0, 0xf0), ErrMalformed},
		"a long identifier":           {change(5, 21), ErrMalformed},
		"an identifier without end":   {good[:9], ErrMalformed},
		"a token without end":         {change(15, 0x7f), ErrMalformed},
		"a length beyond the end":     {change(19, 0x7f), ErrMalformed},
		"no room for a sample":        {slices.Concat(good[:19], []byte{19}, good[21:40]), ErrKeys},
		"another key":                 {change(6, 'x'), ErrKeys},
		"a STREAM frame":              {seal(8, 0, 0), ErrMalformed},
		"a CRYPTO frame beyond 16 K":  {seal(crypto(MaxLen, []byte{1})...), ErrTooLong},
		"a CRYPTO frame far beyond":   {seal(6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1), ErrTooLong},
		"a CRYPTO frame without end":  {seal(append(crypto(0, m), 6, 0, 0x7f, 0xff)...), ErrMalformed},
		"an ACK of endless ranges":    {seal(append(make([]byte, 30), 2, 0, 0, 0xbf, 0xff, 0xff, 0xff)...), ErrMalformed},
		"a hello longer than 16 K":    {seal(crypto(0, []byte{1, 0, 0x40, 0, 3})...), ErrTooLong},
		"another message":             {seal(crypto(0, []byte{2, 0, 0, 1, 3})...), tlshello.ErrNotTLS},
		"two identifiers":             {slices.Concat(good, newClient(t, version1, "87654321").packet(crypto(0, m))), ErrMalformed},
	} {
		_, _, err := new(Reader).Read(c.datagram)
		require.ErrorIs(t, err, c.want, what)
	}
}

// The packet that a client has authenticated may lack the QUIC bit (RFC 9287).
func TestAClientMayClearTheQUICBit(t *testing.T) {
	cl := newClient(t, version1, "12345678")
	cl.cleared = 0x40
	c, h, err := new(Reader).Read(cl.packet(crypto(0, hello("a.example", 0))))
	require.NoError(t, err)
	require.Equal(t, Hello, c)
	require.Equal(t, "a.example", h.Name)
}

func TestADatagramHasInitialPacketsOfOneConnection(t *testing.T) {
	m := hello("a.example", 0)
	one, other := newClient(t, version1, "12345678"), newClient(t, version1, "87654321")
	var r Reader
	_, _, err := r.Read(one.packet(crypto(0, m[:20])))
	require.NoError(t, err)
	require.Equal(t, 1, r.Begun())
	require.Equal(t, "12345678", string(r.Destination()))
	one.to = []byte("87654321")
	_, _, err = r.Read(slices.Concat(one.packet(crypto(20, m[20:])), other.packet(crypto(0, m[:20]))))
	require.ErrorIs(t, err, ErrMalformed)
	c, _, err := r.Read(newClient(t, version1, "a third one").packet(crypto(0, m)))
	require.NoError(t, err)
	require.Equal(t, Hello, c)
	require.Equal(t, "a third one", string(r.Destination()))
}

func TestKindsOfDatagramsAreTold(t *testing.T) {
	initial := newClient(t, version2, "12345678").packet(crypto(0, hello("a.example", 0)))
	handshake := append([]byte{0xf0, 0x6b, 0x33, 0x43, 0xcf, 8, '1', '2', '3', '4', '5', '6', '7', '8', 0, 20}, make([]byte, 20)...)
	early := slices.Clone(handshake)
	early[0] = 0xe0
	for what, c := range map[string]struct {
		datagram []byte
		want     Kind
	}{
		"nothing": {nil, Kind{}}, "a short header": {[]byte{0x40, 1}, Kind{}}, "early data": {early, Kind{Long: true}},
		"an Initial packet":  {initial, Kind{Long: true, Initial: true}},
		"a Handshake packet": {handshake, Kind{Long: true, Handshake: true}},
		"all":                {slices.Concat(early, initial, handshake, []byte{0x40, 1}), Kind{Long: true, Initial: true, Handshake: true}},
	} {
		k, err := KindOf(c.datagram)
		require.NoError(t, err, what)
		require.Equal(t, c.want, k, what)
	}
	k, err := KindOf(slices.Concat(initial, []byte{0xc0, 0, 0, 0, 9, 0, 0}))
	require.ErrorIs(t, err, ErrVersion)
	require.True(t, k.Long)
}

func TestTooManyPiecesAreRefused(t *testing.T) {
	cl := newClient(t, version1, "12345678")
	m := hello("a.example", 1000)
	var frames []byte
	for i := range maxRanges + 1 {
		frames = append(frames, crypto(2*i, m[2*i:2*i+1])...)
	}
	_, _, err := new(Reader).Read(cl.packet(frames))
	require.ErrorIs(t, err, ErrTooLong)
}

func TestOtherPacketsAreTold(t *testing.T) {
	for what, b := range map[string][]byte{
		"a short header": {0x40, 1, 2, 3}, "no QUIC": {0, 1, 2}, "nothing": {},
		"early data": append([]byte{0xd0, 0, 0, 0, 1, 0, 0, 20}, make([]byte, 20)...),
		"handshake":  append([]byte{0xf0, 0x6b, 0x33, 0x43, 0xcf, 0, 0, 20}, make([]byte, 20)...),
	} {
		c, _, err := new(Reader).Read(b)
		require.NoError(t, err, what)
		require.Equal(t, Other, c, what)
	}
	cl := newClient(t, version1, "12345678")
	early := slices.Concat([]byte{0xd0, 0, 0, 0, 1, 8}, []byte("12345678"), []byte{0, 20}, make([]byte, 20))
	c, h, err := new(Reader).Read(slices.Concat(early, cl.packet(crypto(0, hello("a.example", 0))), make([]byte, 100)))
	require.NoError(t, err)
	require.Equal(t, Hello, c, "behind early data, in front of padding")
	require.Equal(t, "a.example", h.Name)
}

func TestARealClientIsRead(t *testing.T) {
	server, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = server.Close() }()
	require.NoError(t, server.SetDeadline(time.Now().Add(time.Minute)))
	client, err := quic.Listen("udp4", "127.0.0.1:0", nil)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = client.Dial(ctx, "udp4", server.LocalAddr().String(), &quic.Config{TLSConfig: &tls.Config{ServerName: "Example.ORG", MinVersion: tls.VersionTLS13}})
	}()
	var r Reader
	for {
		b := make([]byte, 2000)
		n, _, err := server.ReadFrom(b)
		require.NoError(t, err)
		c, h, err := r.Read(b[:n])
		require.NoError(t, err)
		if c == Hello {
			require.Equal(t, "example.org", h.Name)
			break
		}
	}
	cancel()
	<-done
	_ = client.Close(ctx)
}

func FuzzReader(f *testing.F) {
	cl := newClient(f, version1, "12345678")
	m := hello("a.example", 10)
	f.Add(cl.packet(crypto(0, m)), []byte{1}, byte(0))
	f.Add(unhex(f, "rfc9369_a2.hex"), crypto(0, m[:20]), byte(1))
	f.Add([]byte{0x40}, slices.Concat(crypto(20, m[20:]), crypto(0, m[:30]), []byte{2, 1, 1, 0, 0}), byte(1))
	f.Fuzz(func(t *testing.T, datagram, frames []byte, which byte) {
		version := versions()[which%2]
		frames = frames[:min(len(frames), 1<<13)]
		var r Reader
		cl := newClient(t, version, "12345678")
		for _, d := range [][]byte{datagram, cl.packet(frames), datagram, cl.packet(crypto(0, m)), cl.packet(frames)} {
			before := bytes.Clone(d)
			c, h, err := r.Read(d)
			require.Equal(t, before, d, "the datagram goes on as it came")
			require.LessOrEqual(t, len(r.data), MaxLen)
			require.LessOrEqual(t, len(r.have), maxRanges+1)
			require.Equal(t, err == nil && c == Hello, h.Name != "", fmt.Sprint(c, h, err))
			k, unreadable := KindOf(d)
			require.False(t, unreadable != nil && err == nil)
			require.Equal(t, c != Other, k.Initial && err == nil, "what no Initial packet is in is not read")
		}
	})
}
