package proxyclient

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/proxyproto"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// proxy is one that was written as a user writes it.
func proxy(t testing.TB, text string) *spec.Proxy {
	p, err := spec.ParseProxy(text)
	require.NoError(t, err)
	require.NoError(t, p.Check())
	return &p
}

var (
	byName = Target{Name: "example.org", At: netip.MustParseAddrPort("192.0.2.1:443")}
	by4    = Target{At: netip.MustParseAddrPort("192.0.2.1:443")}
	by6    = Target{At: netip.MustParseAddrPort("[2001:db8::1]:443")}
)

const (
	bare     = "socks5://192.0.2.9:1080"
	withUser = "socks5://me:secret@192.0.2.9:1080"
	web      = "http://192.0.2.9:3128"
	webUser  = "http://me:secret@192.0.2.9:3128"
	request4 = "\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb"
	took4    = "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
	stream   = "SSH-2.0-the peer speaks first"
)

// talk is a proxy's side of a handshake: what it sends once it has been sent all of what stands in front.
type talk []string

// run lets a handshake talk with a proxy that sends so many bytes at once, and returns what the handshake has sent, how much of what came
// is left, and how it has ended.
func run(h *Handshake, answers talk, atOnce int) (sent string, left string, failure *Failure) {
	flush := func() {
		sent += string(h.Output())
		h.Sent(len(h.Output()))
	}
	flush()
	for _, a := range answers {
		for a != "" && !h.IsDone() {
			part := a[:min(atOnce, len(a))]
			used, failure := h.Input([]byte(part))
			a = a[used:]
			if failure != nil {
				return sent, a, failure
			}
			if used < len(part) && !h.IsDone() && len(h.Output()) == 0 {
				panic("bytes were left, and nothing was to be sent")
			}
			flush()
		}
		left += a
	}
	return sent, left, nil
}

func TestAHandshakeLeavesTheStreamUntouched(t *testing.T) {
	for name, c := range map[string]struct {
		proxy   string
		to      Target
		sent    string
		answers talk
	}{
		"SOCKS by name": {bare, byName, "\x05\x01\x00" + "\x05\x01\x00\x03\x0bexample.org\x01\xbb", talk{"\x05\x00", took4}},
		"SOCKS by IPv4": {bare, by4, "\x05\x01\x00" + request4, talk{"\x05\x00", took4}},
		"SOCKS by IPv6": {bare, by6, "\x05\x01\x00" + "\x05\x01\x00\x04\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01\x01\xbb",
			talk{"\x05\x00", "\x05\x00\x00\x04" + strings.Repeat("\x00", 18)}},
		"SOCKS answers with a name":        {bare, by4, "\x05\x01\x00" + request4, talk{"\x05\x00", "\x05\x00\x00\x03\x05proxy\x00\x50"}},
		"SOCKS answers with an empty name": {bare, by4, "\x05\x01\x00" + request4, talk{"\x05\x00", "\x05\x00\x00\x03\x00\x00\x50"}},
		"SOCKS answers with a long name":   {bare, by4, "\x05\x01\x00" + request4, talk{"\x05\x00", "\x05\x00\x00\x03\xff" + strings.Repeat("n", 255) + "\x00\x50"}},
		"SOCKS with a password":            {withUser, by4, "\x05\x02\x00\x02" + "\x01\x02me\x06secret" + request4, talk{"\x05\x02", "\x01\x00", took4}},
		"SOCKS wants no password":          {withUser, by4, "\x05\x02\x00\x02" + request4, talk{"\x05\x00", took4}},
		"a name that is an address":        {bare, Target{"192.0.2.77", by4.At}, "\x05\x01\x00" + request4, talk{"\x05\x00", took4}},
		"a name that ends a line":          {web, Target{"a\r\nX: y", by4.At}, "CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: 192.0.2.1:443\r\n\r\n", talk{"HTTP/1.1 200 OK\r\n\r\n"}},
		"HTTP by name":                     {web, byName, "CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n", talk{"HTTP/1.1 200 Connection established\r\n\r\n"}},
		"HTTP by IPv6":                     {web, by6, "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n", talk{"HTTP/1.0 200\r\n\r\n"}},
		"HTTP with a password": {webUser, by4, "CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: 192.0.2.1:443\r\nProxy-Authorization: Basic bWU6c2VjcmV0\r\n\r\n",
			talk{"HTTP/1.1 200 OK\r\nVia: 1.1 x\r\nContent-Length: 0\r\n\r\n"}},
		"HTTP with line feeds alone":  {web, by4, "CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: 192.0.2.1:443\r\n\r\n", talk{"HTTP/1.1 299 OK\nA: b\n\n"}},
		"HTTP with interim responses": {web, by4, "CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: 192.0.2.1:443\r\n\r\n", talk{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"}},
	} {
		for _, atOnce := range []int{1, 2, 3, 1 << 20} {
			answers := append(talk{}, c.answers...)
			answers[len(answers)-1] += stream
			h := New(proxy(t, c.proxy), c.to)
			sent, left, failure := run(h, answers, atOnce)
			require.Nil(t, failure, name)
			require.True(t, h.IsDone(), name)
			require.Equal(t, c.sent, sent, name)
			require.Equal(t, stream, left, "%s: what follows is the stream's", name)
		}
	}
}

// A proxy that says everything at once is believed no more than one that waits, and what is behind its answers is the stream.
func TestAProxyMayAnswerBeforeItIsAsked(t *testing.T) {
	h := New(proxy(t, withUser), by4)
	used, failure := h.Input([]byte("\x05\x02\x01\x00" + took4 + stream))
	require.Nil(t, failure)
	require.Equal(t, 2+2+len(took4), used)
	require.False(t, h.IsDone(), "the request was not sent yet")
	h.Sent(len(h.Output()))
	require.True(t, h.IsDone())
}

func TestARefusalIsTheOneOfAConnect(t *testing.T) {
	socks := func(reply string) talk { return talk{"\x05\x00", "\x05" + reply + "\x00\x01\x00\x00\x00\x00\x00\x00"} }
	status := func(line string) talk { return talk{"HTTP/1.1 " + line + "\r\nX: y\r\n\r\nbody"} }
	for name, c := range map[string]struct {
		proxy   string
		answers talk
		errno   unix.Errno
		faulty  bool
		says    string
	}{
		"SOCKS general failure":        {bare, socks("\x01"), unix.ECONNREFUSED, false, "general SOCKS server failure"},
		"SOCKS not allowed":            {bare, socks("\x02"), unix.EACCES, false, "not allowed by ruleset"},
		"SOCKS network unreachable":    {bare, socks("\x03"), unix.ENETUNREACH, false, "network unreachable"},
		"SOCKS host unreachable":       {bare, socks("\x04"), unix.EHOSTUNREACH, false, "host unreachable"},
		"SOCKS refused":                {bare, socks("\x05"), unix.ECONNREFUSED, false, "connection refused"},
		"SOCKS TTL expired":            {bare, socks("\x06"), unix.EHOSTUNREACH, false, "TTL expired"},
		"SOCKS command":                {bare, socks("\x07"), unix.ECONNREFUSED, false, "command not supported"},
		"SOCKS address type":           {bare, socks("\x08"), unix.ECONNREFUSED, false, "address type not supported"},
		"SOCKS another reply":          {bare, socks("\xff"), unix.ECONNREFUSED, false, "reply 255"},
		"SOCKS cut off behind a reply": {bare, talk{"\x05\x00", "\x05\x05"}, unix.ECONNREFUSED, false, "connection refused"},
		"SOCKS wants a password":       {bare, talk{"\x05\xff"}, unix.EACCES, true, "wants a user name and a password"},
		"SOCKS wants another proof":    {withUser, talk{"\x05\xff"}, unix.EACCES, true, "another kind of authentication"},
		"SOCKS chose what it was not":  {bare, talk{"\x05\x02"}, unix.EACCES, true, "another kind of authentication"},
		"SOCKS wrong password":         {withUser, talk{"\x05\x02", "\x01\x01"}, unix.EACCES, true, "does not take the user name"},
		"SOCKS 4":                      {bare, talk{"\x00\x5a"}, unix.ECONNREFUSED, true, "does not speak SOCKS 5"},
		"SOCKS 4 later":                {bare, talk{"\x05\x00", "\x04"}, unix.ECONNREFUSED, true, "does not speak SOCKS 5"},
		"SOCKS with an odd address":    {bare, talk{"\x05\x00", "\x05\x00\x00\x02"}, unix.ECONNREFUSED, true, "unknown type, 2"},
		"HTTP 407":                     {web, status("407 Proxy Authentication Required"), unix.EACCES, true, "407"},
		"HTTP 403":                     {web, status("403 Filtered"), unix.EACCES, false, "forbids it: 403"},
		"HTTP 502":                     {web, status("502 Bad Gateway"), unix.EHOSTUNREACH, false, "502"},
		"HTTP 503":                     {web, status("503 Unable to connect"), unix.EHOSTUNREACH, false, "503"},
		"HTTP 500":                     {web, status("500 Oops"), unix.ECONNREFUSED, false, "refuses: 500"},
		"HTTP 302":                     {web, status("302 Found"), unix.ECONNREFUSED, false, "refuses: 302"},
		"HTTP 101":                     {web, status("101 Switching"), unix.ECONNREFUSED, false, "refuses: 101"},
		"HTTP 999":                     {web, status("999 What"), unix.ECONNREFUSED, false, "refuses: 999"},
		"HTTP/2":                       {web, talk{"HTTP/2 200\r\n\r\n"}, unix.ECONNREFUSED, true, "does not speak HTTP/1"},
		"an SSH server":                {web, talk{stream}, unix.ECONNREFUSED, true, "does not speak HTTP/1"},
		"a SOCKS server":               {web, talk{"\x05\xff"}, unix.ECONNREFUSED, true, "does not speak HTTP/1"},
		"endless lines":                {web, talk{"HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", maxHead)}, unix.ECONNREFUSED, true, "has no end"},
		"an endless line":              {web, talk{"HTTP/1.1 200 OK" + strings.Repeat("x", maxHead)}, unix.ECONNREFUSED, true, "has no end"},
		"endless interim responses":    {web, talk{strings.Repeat("HTTP/1.1 100 Go on\r\n\r\n", maxHead)}, unix.ECONNREFUSED, true, "has no end"},
	} {
		for _, atOnce := range []int{1, 1 << 20} {
			h := New(proxy(t, c.proxy), by4)
			_, _, failure := run(h, c.answers, atOnce)
			require.NotNil(t, failure, name)
			require.Equal(t, c.errno, failure.Errno, name)
			require.Equal(t, c.faulty, failure.Faulty, name)
			require.ErrorContains(t, failure, c.says, name)
			require.NotContains(t, failure.Error(), "secret", name)
			require.False(t, h.IsDone(), name)
		}
	}
}

func TestAProxyThatEndsOrSleepsIsNoConnection(t *testing.T) {
	h := New(proxy(t, bare), by4)
	require.Equal(t, unix.ECONNREFUSED, h.Ended().Errno)
	require.Equal(t, unix.EHOSTUNREACH, h.Late().Errno)
	require.False(t, h.IsDone())
}

func TestARedirectBeginsWithAHeaderAndAwaitsNothing(t *testing.T) {
	from, to := netip.MustParseAddrPort("10.0.2.15:40000"), netip.MustParseAddrPort("192.0.2.1:443")
	h := NewHeader(from, to)
	require.False(t, h.IsDone())
	header, n, err := proxyproto.Parse(h.Output())
	require.NoError(t, err)
	require.Equal(t, proxyproto.Header{Source: from, Destination: to}, header)
	h.Sent(n - 1)
	require.False(t, h.IsDone(), "a byte of it is left")
	h.Sent(1)
	require.True(t, h.IsDone())
	used, failure := h.Input([]byte(stream))
	require.Nil(t, failure)
	require.Zero(t, used)
}

// FuzzInput is a proxy that sends whatever it likes. However it is cut, the handshake ends the same, has used the same bytes if it has not failed, and holds
// no more than an answer has.
func FuzzInput(f *testing.F) {
	f.Add(uint8(0), []byte("\x05\x00"+took4+stream), uint8(3))
	f.Add(uint8(1), []byte("\x05\x02\x01\x00\x05\x00\x00\x03\x05proxy\x00\x50"+stream), uint8(1))
	f.Add(uint8(1), []byte("00"), uint8(0))
	f.Add(uint8(2), []byte("HTTP/1.1 100 x\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\n\r\n"+stream), uint8(5))
	f.Add(uint8(3), []byte("HTTP/1.1 407 x\n\n"), uint8(2))
	f.Fuzz(func(t *testing.T, which uint8, sent []byte, atOnce uint8) {
		p := proxy(t, []string{bare, withUser, web, webUser}[which%4])
		whole, parts := New(p, byName), New(p, byName)
		used, failure := whole.Input(sent)
		n := 0
		var partly *Failure
		for rest := sent; len(rest) > 0 && partly == nil; {
			part := rest[:min(int(atOnce)+1, len(rest))]
			var u int
			u, partly = parts.Input(part)
			n += u
			rest = rest[u:]
			if u < len(part) {
				break
			}
		}
		require.Equal(t, failure, partly)
		if failure == nil { // after which nobody reads on
			require.Equal(t, used, n)
		}
		require.Equal(t, whole.Output(), parts.Output())
		require.LessOrEqual(t, used, maxHead)
		whole.Sent(len(whole.Output()))
		if failure == nil && used < len(sent) {
			require.True(t, whole.IsDone(), "bytes are left to the stream only")
		}
	})
}
