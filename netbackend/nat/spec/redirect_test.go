package spec

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRedirectsReadAsTheyAreWritten(t *testing.T) {
	end := func(addr string, port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr(addr), port)
	}
	for text, want := range map[string]Redirect{
		"10.0.2.100=127.0.0.1":             {From: end("10.0.2.100", 0), To: end("127.0.0.1", 0)},
		"tcp:10.0.2.100:80=127.0.0.1:8080": {Proto: protoTCP, From: end("10.0.2.100", 80), To: end("127.0.0.1", 8080)},
		"udp:10.0.2.100:53=192.0.2.1:5353": {Proto: protoUDP, From: end("10.0.2.100", 53), To: end("192.0.2.1", 5353)},
		"tcp:[fd00::1]:80=[::1]:8080":      {Proto: protoTCP, From: end("fd00::1", 80), To: end("::1", 8080)},
		"fd00::1=::1":                      {From: end("fd00::1", 0), To: end("::1", 0)},
		"198.51.100.7:443=127.0.0.1:8443":  {From: end("198.51.100.7", 443), To: end("127.0.0.1", 8443)},
	} {
		got, err := ParseRedirect(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
		require.Equal(t, text, got.String())
		require.NoError(t, got.Check())
	}
}

func TestAWrongRedirectIsToldByItsWrongPart(t *testing.T) {
	for text, part := range map[string]string{
		"":                                   "it does not say where",
		"10.0.2.100":                         "it does not say where",
		"10.0.2.100=":                        `"" is not an IP address`,
		"10.0.2.100:x=127.0.0.1":             `"x" is not a port`,
		"10.0.2.100:0=127.0.0.1":             `"0" is not a port`,
		"tcp:host:80=127.0.0.1:80":           `"host" is not an IP address`,
		"icmp:10.0.2.100=127.0.0.1":          `"icmp" is not an IP address`,
		"tcp:fd00::1:x=127.0.0.1:80":         `"fd00::1": IPv6 addresses are written in brackets`,
		"10.0.2.100=127.0.0.1=127.0.0.1":     `"127.0.0.1=127.0.0.1" is not an IP address`,
		"tcp:[fe80::1%eth0]:80=127.0.0.1:80": "has a zone",
	} {
		_, err := ParseRedirect(text)
		require.ErrorContains(t, err, part, text)
		require.ErrorContains(t, err, RedirectForm)
	}
}

func FuzzParseRedirect(f *testing.F) {
	f.Add("tcp:10.0.2.100:80=127.0.0.1:8080")
	f.Add("fd00::1=::1")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRedirect(text)
		if err != nil {
			return
		}
		again, err := ParseRedirect(r.String())
		if err != nil || again != r {
			t.Fatalf("%q is %v, which is %v, %v", text, r, again, err)
		}
	})
}
