package proxyproto

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	pair4 = Header{netip.MustParseAddrPort("192.0.2.7:40000"), netip.MustParseAddrPort("198.51.100.1:443")}
	pair6 = Header{netip.MustParseAddrPort("[2001:db8::7]:40000"), netip.MustParseAddrPort("[2001:db8::1]:443")}

	sig = "\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"

	bytes4 = "\xc0\x00\x02\x07" + "\xc6\x33\x64\x01" + "\x9c\x40" + "\x01\xbb"
	bytes6 = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\x9c\x40" + "\x01\xbb"
	longest6 = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
)

// Byte for byte, by the tables of the specification.
var golden = map[string]struct {
	text    string
	version int // that Append writes so, 0 if it does not
	want    Header
}{
	"v1 TCP4":                {"PROXY TCP4 192.0.2.7 198.51.100.1 40000 443\r\n", 1, pair4},
	"v1 TCP6":                {"PROXY TCP6 2001:db8::7 2001:db8::1 40000 443\r\n", 1, pair6},
	"v1 UNKNOWN":             {"PROXY UNKNOWN\r\n", 1, Header{}},
	"v1 UNKNOWN with more":   {"PROXY UNKNOWN " + longest6 + " " + longest6 + " 65535 65535\r\n", 0, Header{}},
	"v1 longest TCP4":        {"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", 1, both("255.255.255.255:65535")},
	"v1 longest TCP6":        {"PROXY TCP6 " + longest6 + " " + longest6 + " 65535 65535\r\n", 1, both("[" + longest6 + "]:65535")},
	"v1 port 0":              {"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", 1, both("0.0.0.0:0")},
	"v2 TCP over IPv4":       {sig + "\x21\x11\x00\x0c" + bytes4, 2, pair4},
	"v2 TCP over IPv6":       {sig + "\x21\x21\x00\x24" + bytes6, 2, pair6},
	"v2 of nothing known":    {sig + "\x21\x00\x00\x00", 2, Header{}},
	"v2 unknown with more":   {sig + "\x21\x00\x00\x03abc", 0, Header{}},
	"v2 unix":                {sig + "\x21\x31\x00\xd8" + strings.Repeat("p", 216), 0, Header{}},
	"v2 LOCAL":               {sig + "\x20\x00\x00\x00", 0, Header{}},
	"v2 LOCAL with anything": {sig + "\x20\xff\x00\x0c" + bytes4, 0, Header{}},
	"v2 TLVs":                {sig + "\x21\x11\x00\x17" + bytes4 + "\x04\x00\x02..\x02\x00\x03abc", 0, pair4},
	"v2 empty TLV":           {sig + "\x21\x11\x00\x0f" + bytes4 + "\xee\x00\x00", 0, pair4},
	"v2 CRC-32C":             {sig + "\x21\x11\x00\x13" + bytes4 + "\x03\x00\x04\x39\x42\x6b\xbf", 0, pair4},
}

func both(at string) Header { return Header{netip.MustParseAddrPort(at), netip.MustParseAddrPort(at)} }

func TestHeadersAreRead(t *testing.T) {
	for name, c := range golden {
		t.Run(name, func(t *testing.T) {
			h, n, err := Parse([]byte(c.text + "GET / HTTP/1.1\r\n"))
			require.NoError(t, err)
			require.Equal(t, len(c.text), n, "what follows is the stream's")
			require.Equal(t, c.want, h)
			for i := range len(c.text) {
				_, _, err := Parse([]byte(c.text[:i]))
				require.ErrorIs(t, err, ErrShort, "%d bytes", i)
			}
		})
	}
}

func TestHeadersAreWritten(t *testing.T) {
	for name, c := range golden {
		if c.version == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			got := Append([]byte("in front "), c.version, c.want)
			require.Equal(t, "in front "+c.text, string(got))
			require.LessOrEqual(t, len(c.text), MaxWritten)
		})
	}
}

// Two addresses of different families are told as two of IPv6.
func TestMixedFamiliesAreWrittenAsIPv6(t *testing.T) {
	h := Header{pair4.Source, pair6.Destination}
	require.Equal(t, "PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 40000 443\r\n", string(Append(nil, 1, h)))
	got, _, err := Parse(Append(nil, 2, h))
	require.NoError(t, err)
	require.Equal(t, h.Source.Addr(), got.Source.Addr().Unmap())
	require.Equal(t, h.Destination, got.Destination)
}

func TestWritingAllocatesNothing(t *testing.T) {
	b := make([]byte, 0, MaxWritten)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		for version := 1; version <= 2; version++ {
			Append(b, version, pair4)
			Append(b, version, pair6)
		}
	}))
}

func TestWhatIsNoHeaderIsRefused(t *testing.T) {
	v1 := func(line string) string { return "PROXY " + line + "\r\n" }
	for name, text := range map[string]string{
		"HTTP":                           "GET / HTTP/1.1\r\n",
		"TLS":                            "\x16\x03\x01",
		"v1 in lower case":               "proxy TCP4 192.0.2.7 198.51.100.1 1 2\r\n",
		"v1 without an end":              "PROXY TCP4 " + strings.Repeat("1", 200),
		"v1 one byte too long":           "PROXY UNKNOWN " + strings.Repeat("x", maxV1-14-1) + "\r\n",
		"v1 line feed alone":             "PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n" + strings.Repeat("x", 100),
		"v1 of nothing":                  "PROXY \r\n",
		"v1 UDP4":                        v1("UDP4 192.0.2.7 198.51.100.1 1 2"),
		"v1 UNKNOWNS":                    v1("UNKNOWNS"),
		"v1 one address":                 v1("TCP4 192.0.2.7 1 2"),
		"v1 three ports":                 v1("TCP4 192.0.2.7 198.51.100.1 1 2 3"),
		"v1 two spaces":                  v1("TCP4  192.0.2.7 198.51.100.1 1 2"),
		"v1 space at the end":            v1("TCP4 192.0.2.7 198.51.100.1 1 2 "),
		"v1 tab":                         v1("TCP4\t192.0.2.7 198.51.100.1 1 2"),
		"v1 zero byte":                   v1("TCP4 192.0.2.7 198.51.100.1 1 2\x00"),
		"v1 IPv6 as TCP4":                v1("TCP4 2001:db8::7 2001:db8::1 1 2"),
		"v1 IPv4 as TCP6":                v1("TCP6 192.0.2.7 198.51.100.1 1 2"),
		"v1 two families":                v1("TCP6 2001:db8::7 198.51.100.1 1 2"),
		"v1 zone":                        v1("TCP6 fe80::1%eth0 2001:db8::1 1 2"),
		"v1 name":                        v1("TCP4 localhost 198.51.100.1 1 2"),
		"v1 leading zero in an address":  v1("TCP4 192.0.2.07 198.51.100.1 1 2"),
		"v1 leading zero in a port":      v1("TCP4 192.0.2.7 198.51.100.1 01 2"),
		"v1 port with a sign":            v1("TCP4 192.0.2.7 198.51.100.1 +1 2"),
		"v1 port too large":              v1("TCP4 192.0.2.7 198.51.100.1 1 65536"),
		"v1 no port":                     v1("TCP4 192.0.2.7 198.51.100.1 1 "),
		"v2 version 1":                   sig + "\x11",
		"v2 version 3":                   sig + "\x31\x11\x00\x0c" + bytes4,
		"v2 command 2":                   sig + "\x22\x11\x00\x0c" + bytes4,
		"v2 UDP over IPv4":               sig + "\x21\x12\x00\x0c" + bytes4,
		"v2 unix datagrams":              sig + "\x21\x32\x00\xd8" + strings.Repeat("p", 216),
		"v2 family 4":                    sig + "\x21\x41\x00\x0c" + bytes4,
		"v2 IPv4 without a transport":    sig + "\x21\x10\x00\x0c" + bytes4,
		"v2 no room for IPv4":            sig + "\x21\x11\x00\x0b" + bytes4,
		"v2 no room for IPv6":            sig + "\x21\x21\x00\x23" + bytes6,
		"v2 no room for paths":           sig + "\x21\x31\x00\x0c" + bytes4,
		"v2 too long":                    sig + "\x21\x11\xff\xff" + bytes4,
		"v2 one byte too long":           sig + "\x21\x11\x0f\xf1",
		"v2 half a TLV":                  sig + "\x21\x11\x00\x0e" + bytes4 + "\x04\x00",
		"v2 TLV longer than the header":  sig + "\x21\x11\x00\x10" + bytes4 + "\x04\x00\x02.",
		"v2 CRC-32C of something else":   sig + "\x21\x11\x00\x13" + bytes4 + "\x03\x00\x04\x39\x42\x6b\xbe",
		"v2 CRC-32C of the wrong length": sig + "\x21\x11\x00\x12" + bytes4 + "\x03\x00\x03\x39\x42\x6b",
	} {
		t.Run(name, func(t *testing.T) {
			_, n, err := Parse([]byte(text))
			require.Zero(t, n)
			var reason Malformed
			require.ErrorAs(t, err, &reason)
		})
	}
}

func TestTheLongestHeaderIsRead(t *testing.T) {
	n := MaxLen - fixedV2 - lengthTCP4 - headerTLV
	text := sig + "\x21\x11\x0f\xf0" + bytes4 + "\x04" + string([]byte{byte(n >> 8), byte(n)}) + strings.Repeat("x", n)
	require.Len(t, text, MaxLen)
	h, length, err := Parse([]byte(text))
	require.NoError(t, err)
	require.Equal(t, MaxLen, length)
	require.Equal(t, pair4, h)
}

// What was read, and is written, reads the same; and what was not enough is never taken back.
func FuzzParse(f *testing.F) {
	for _, c := range golden {
		f.Add([]byte(c.text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := Parse(b)
		if err != nil {
			require.Zero(t, n)
			require.Equal(t, Header{}, h)
			return
		}
		require.LessOrEqual(t, n, min(len(b), MaxLen))
		for i := range n {
			_, _, err := Parse(b[:i])
			require.ErrorIs(t, err, ErrShort)
		}
		require.Equal(t, h.Source.IsValid(), h.Destination.IsValid())
		for version := 1; version <= 2; version++ {
			written := Append(nil, version, h)
			again, length, err := Parse(written)
			require.NoError(t, err)
			require.Equal(t, len(written), length)
			require.True(t, bytes.Equal(written, Append(nil, version, again)))
		}
	})
}
