package httphead

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/servername"
)

// read reads the head at the beginning of a stream, which comes in parts of so many bytes.
func read(stream string, each int) (h Head, n int, err error) {
	var s Scanner
	for end := 0; end < len(stream) && n == 0 && err == nil; {
		end = min(end+each, len(stream))
		n, err = s.Find([]byte(stream[:end]))
	}
	if err != nil || n == 0 {
		return Head{}, n, err
	}
	h, err = Parse([]byte(stream[:n]))
	return h, n, err
}

func TestTheHostOfARequestIsRead(t *testing.T) {
	for stream, want := range map[string]Head{
		"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n":                                                  {Host: "a.example"},
		"GET / HTTP/1.0\r\nhOST:A.Example.\t \r\n\r\n":                                               {Host: "a.example"},
		"GET / HTTP/1.1\r\nHost: a.example:8080\r\nAccept: */*\r\n\r\n":                              {Host: "a.example", Port: 8080},
		"GET http://A.example/x?y=http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n":             {Host: "a.example"},
		"GET HTTP://a.example:81?q HTTP/1.1\r\nHost: a.example:81\r\n\r\n":                           {Host: "a.example", Port: 81},
		"OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n":                                              {Host: "a.example"},
		"GET /%2f?a=\"b\"#c HTTP/1.1\r\nHost: a.example\r\nX: \xe4\r\nConnection: TE, close\r\n\r\n": {Host: "a.example"},
		"GET / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n\r\n":                             {Host: "a.example"},
		"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 17\r\n\r\n":                           {Host: "a.example", Body: Body{left: 17}},
		"PUT / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: Chunked\r\n\r\n":                    {Host: "a.example", Body: Body{part: chunkSize}},
		"GET / HTTP/1.1\r\nHost: a.example\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\r\n":     {Host: "a.example", Upgrade: true},
	} {
		for _, each := range []int{1, 2, 3, 4, 5, len(stream)} {
			h, n, err := read(stream, each)
			require.NoError(t, err, stream)
			require.Equal(t, want, h, stream)
			require.Equal(t, len(stream), n)
		}
	}
}

func TestAnAddressIsNoName(t *testing.T) {
	for stream, port := range map[string]uint16{
		"GET / HTTP/1.0\r\n\r\n":                                                  0,
		"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n":                               0,
		"GET / HTTP/1.1\r\nHost: 192.0.2.1:80\r\n\r\n":                            80,
		"GET / HTTP/1.1\r\nHost: [2001:db8::1]\r\n\r\n":                           0,
		"GET http://[2001:db8::1]:80/ HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n": 80,
	} {
		h, n, err := read(stream, len(stream))
		require.NoError(t, err, stream)
		require.Equal(t, Head{Port: port}, h, stream)
		require.Equal(t, len(stream), n)
	}
}

func TestARequestThatTwoServersCouldReadDifferentlyIsRefused(t *testing.T) {
	const line, host = "GET / HTTP/1.1\r\n", "Host: a.example\r\n"
	for stream, want := range map[string]error{
		"\x16\x03\x01\x02\x00\x01":                               ErrNotHTTP, // TLS
		"SSH-2.0-x\r\n\r\n":                                      ErrNotHTTP,
		"\r\n" + line + host + "\r\n":                            ErrNotHTTP,
		"\n" + line + host + "\r\n":                              ErrNotHTTP,
		" " + line + host + "\r\n":                               ErrNotHTTP,
		"GET /\r\n\r\n":                                          ErrNotHTTP, // HTTP/0.9
		"GET / HTTP/2.0\r\n" + host + "\r\n":                     ErrNotHTTP,
		"GET / HTTP/1.2\r\n" + host + "\r\n":                     ErrNotHTTP,
		"GET / http/1.1\r\n" + host + "\r\n":                     ErrNotHTTP,
		"GET  / HTTP/1.1\r\n" + host + "\r\n":                    ErrNotHTTP,
		"GET / HTTP/1.1 \r\n" + host + "\r\n":                    ErrNotHTTP,
		"GET\t/\tHTTP/1.1\r\n" + host + "\r\n":                   ErrNotHTTP,
		"GET /\x00 HTTP/1.1\r\n" + host + "\r\n":                 ErrNotHTTP,
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":                       ErrNotHTTP,
		"PRI * HTTP/1.1\r\n" + host + "\r\n":                     ErrMethod,
		"CONNECT a.example:443 HTTP/1.1\r\n" + host + "\r\n":     ErrMethod,
		"connect / HTTP/1.1\r\n" + host + "\r\n":                 ErrMethod,
		"TRACE / HTTP/1.1\r\n" + host + "\r\n":                   ErrMethod,
		"GET* / HTTP/1.1\r\n" + host + "\r\n":                    ErrMethod,
		"GET * HTTP/1.1\r\n" + host + "\r\n":                     ErrTarget,
		"GET //b.example/ HTTP/1.1\r\n" + host + "\r\n":          ErrTarget,
		`GET /\b.example/ HTTP/1.1` + "\r\n" + host + "\r\n":     ErrTarget,
		"GET a.example HTTP/1.1\r\n" + host + "\r\n":             ErrTarget,
		"GET https://a.example/ HTTP/1.1\r\n" + host + "\r\n":    ErrTarget,
		"GET http:/// HTTP/1.1\r\n" + host + "\r\n":              ErrTarget,
		"GET http:// HTTP/1.1\r\n" + host + "\r\n":               ErrTarget,
		"GET /\xe4 HTTP/1.1\r\n" + host + "\r\n":                 ErrTarget,
		"GET http://b.example/ HTTP/1.1\r\n" + host + "\r\n":     ErrHosts,
		"GET http://a.example:80/ HTTP/1.1\r\n" + host + "\r\n":  ErrHosts,
		"GET http://b@a.example/ HTTP/1.1\r\n" + host + "\r\n":   ErrHosts,
		"GET http://a.example\\@b/ HTTP/1.1\r\n" + host + "\r\n": ErrHosts,
		line + "\r\n":                                                       ErrNoHost,
		"GET http://a.example/ HTTP/1.1\r\n\r\n":                            ErrNoHost,
		line + host + host + "\r\n":                                         ErrHosts,
		line + host + "host: b.example\r\n\r\n":                             ErrHosts,
		line + "H_ost: a\r\nHo_st: b\r\n\r\n":                               ErrNoHost,
		line + "Host: a.example, b.example\r\n\r\n":                         servername.ErrBadName,
		line + "Host:\r\n\r\n":                                              servername.ErrBadName,
		line + "Host: a b\r\n\r\n":                                          servername.ErrBadName,
		line + "Host: a.example:\r\n\r\n":                                   servername.ErrBadName,
		line + "Host: a.example:0\r\n\r\n":                                  servername.ErrBadName,
		line + "Host: a.example:080\r\n\r\n":                                servername.ErrBadName,
		line + "Host: a.example:+80\r\n\r\n":                                servername.ErrBadName,
		line + "Host: a.example:65536\r\n\r\n":                              servername.ErrBadName,
		line + "Host: 2001:db8::1\r\n\r\n":                                  servername.ErrBadName,
		line + "Host: [2001:db8::1\r\n\r\n":                                 servername.ErrBadName,
		line + "Host: 2001:db8::1]\r\n\r\n":                                 servername.ErrBadName,
		line + "Host: [a.example]\r\n\r\n":                                  servername.ErrBadName,
		"GET http://a.example/ HTTP/1.0\r\n\r\n":                            ErrNoHost,
		line + "Host: a.example:80:80\r\n\r\n":                              servername.ErrBadName,
		line + "Host : a.example\r\n\r\n":                                   ErrLine,
		line + " Host: a.example\r\n\r\n":                                   ErrLine,
		line + "Host: a.example\r\n b.example\r\n\r\n":                      ErrLine, // folded
		line + "X: y\r\n\tHost: b.example\r\n" + host + "\r\n":              ErrLine,
		line + "no colon\r\n" + host + "\r\n":                               ErrLine,
		line + ": no name\r\n" + host + "\r\n":                              ErrLine,
		"GET / HTTP/1.1\n" + host + "\r\n":                                  ErrLine,
		line + "Host: a.example\n\r\n":                                      ErrLine,
		line + "Host: a.example\r\r\n\r\n":                                  ErrLine,
		line + "X: y\rHost: b.example\r\n" + host + "\r\n":                  ErrLine,
		line + "X: y\nHost: b.example\r\n" + host + "\r\n":                  ErrLine,
		line + host + "\n":                                                  ErrLine,
		line + "X: \x00\r\n" + host + "\r\n":                                ErrNotHTTP,
		line + "X: \x7f\r\n" + host + "\r\n":                                ErrNotHTTP,
		line + host + "Connection: host\r\n\r\n":                            ErrHopByHop,
		line + host + "Connection: close, Content-Length\r\n\r\n":           ErrHopByHop,
		line + host + "Expect: 100-continue\r\n\r\n":                        ErrExpect,
		line + host + "Upgrade: h2c\r\n\r\n":                                ErrUpgrade,
		line + host + "Upgrade: websocket, h2c\r\n\r\n":                     ErrUpgrade,
		line + host + "Upgrade: websocket\r\nUpgrade: h2c\r\n\r\n":          ErrUpgrade,
		line + host + "Upgrade: \r\n\r\n":                                   ErrUpgrade,
		line + host + "HTTP2-Settings: AAA\r\n\r\n":                         ErrUpgrade,
		"GET / HTTP/1.0\r\n" + host + "Upgrade: websocket\r\n\r\n":          ErrUpgrade,
		"POST / HTTP/1.1\r\n" + host + "Upgrade: websocket\r\n\r\n":         ErrUpgrade,
		line + host + "Content-Length: 1\r\n\r\n":                           ErrFraming,
		line + host + "Transfer-Encoding: chunked\r\n\r\n":                  ErrFraming,
		"HEAD / HTTP/1.1\r\n" + host + "Content-Length: 1\r\n\r\n":          ErrFraming,
		post("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"):         ErrFraming,
		post("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"):         ErrFraming,
		post("Content-Length: 1\r\nContent-Length: 1\r\n"):                  ErrFraming,
		post("Content-Length: 1, 1\r\n"):                                    ErrFraming,
		post("Content-Length: +1\r\n"):                                      ErrFraming,
		post("Content-Length: -1\r\n"):                                      ErrFraming,
		post("Content-Length: 0x1\r\n"):                                     ErrFraming,
		post("Content-Length: 1 2\r\n"):                                     ErrFraming,
		post("Content-Length:\r\n"):                                         ErrFraming,
		post("Content-Length: 9999999999999999999\r\n"):                     ErrFraming,
		post("Content_Length: 1\r\n"):                                       ErrFraming,
		post("Transfer_Encoding: chunked\r\n"):                              ErrFraming,
		post("Transfer-Encoding: identity\r\n"):                             ErrFraming,
		post("Transfer-Encoding: gzip, chunked\r\n"):                        ErrFraming,
		post("Transfer-Encoding: chunked, chunked\r\n"):                     ErrFraming,
		post("Transfer-Encoding: xchunked\r\n"):                             ErrFraming,
		post("Transfer-Encoding: \"chunked\"\r\n"):                          ErrFraming,
		post("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"):      ErrFraming,
		post("Transfer-Encoding: \vchunked\r\n"):                            ErrNotHTTP,
		"POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n": ErrFraming,
		line + strings.Repeat("X: y\r\n", 201) + host + "\r\n":              ErrTooLong,
		line + "X: " + strings.Repeat("y", MaxLen):                          ErrTooLong,
	} {
		for _, each := range []int{1, 7, len(stream)} {
			_, _, err := read(stream[:min(len(stream), MaxLen)], each)
			require.ErrorIs(t, err, want, "%q by %d", stream, each)
		}
	}
}

// post is a request with a body, which fields tell of.
func post(fields string) string {
	return "POST / HTTP/1.1\r\nHost: a.example\r\n" + fields + "\r\n"
}

func TestRequestsFollowEachOther(t *testing.T) {
	stream := post("Content-Length: 3\r\n") + "abc" + post("Transfer-Encoding: chunked\r\n") +
		"1\r\nG\r\n00A\r\n0123456789\r\n0\r\n\r\n" + "GET / HTTP/1.1\r\nHost: b.example\r\n\r\n"
	var hosts []string
	for rest := stream; rest != ""; {
		h, n, err := read(rest, 5)
		require.NoError(t, err)
		hosts = append(hosts, h.Host)
		for rest = rest[n:]; !h.Body.IsOver(); {
			n, err := h.Body.Walk([]byte(rest[:min(2, len(rest))]))
			require.NoError(t, err)
			rest = rest[n:]
		}
	}
	require.Equal(t, []string{"a.example", "a.example", "b.example"}, hosts)
}

func TestAMalformedChunkIsRefused(t *testing.T) {
	for _, chunks := range []string{
		"\r\n", "g\r\n", "1;x\r\n", "1 \r\n", " 1\r\n", "0x1\r\n", "-1\r\n", "1\n", "1\rx", "1\r\nab", "1\r\na\n", "1\r\na\rx", "0\r\nX: y\r\n", "0\r\n\n", "0\r\n\rx",
		"0000000000000001\r\n", "ffffffffffffffff\r\n",
	} {
		h, _, err := read(post("Transfer-Encoding: chunked\r\n"), 100)
		require.NoError(t, err)
		_, err = h.Body.Walk([]byte(chunks))
		require.ErrorIs(t, err, ErrChunk, "%q", chunks)
	}
}

func TestHowMuchNobodyNeedsToLookAtIsTold(t *testing.T) {
	b := Body{left: 1 << 40}
	require.EqualValues(t, 1<<40, b.Plain())
	b = Body{part: chunkSize}
	require.Zero(t, b.Plain())
	_, err := b.Walk([]byte("5\r\nx"))
	require.NoError(t, err)
	require.EqualValues(t, 4, b.Plain())
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"), uint16(3))
	f.Add([]byte(post("Transfer-Encoding: chunked\r\n")+"3\r\nabc\r\n0\r\n\r\n"), uint16(70))
	f.Add([]byte(post("Content-Length: 3\r\n")+"abc"), uint16(70))
	f.Add([]byte("GET http://a.example:81/ HTTP/1.1\r\nHost: a.example:81\r\nConnection: TE\r\n\r\n"), uint16(20))
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		b = b[:min(len(b), MaxLen)]
		h, n, err := read(string(b), MaxLen)
		h2, n2, err2 := readIn2(b, int(cut))
		require.Equal(t, err, err2)
		if err != nil || n == 0 {
			return
		}
		require.Equal(t, h, h2, "where the stream is cut makes no difference")
		require.Equal(t, n, n2)
		body := h.Body
		end, bodyErr := body.Walk(b[n:])
		agree(t, b, &h, b[n:n+end], bodyErr == nil && body.IsOver())
	})
}

// readIn2 is read for a stream that comes in two parts.
func readIn2(b []byte, cut int) (h Head, n int, err error) {
	var s Scanner
	n, err = s.Find(slices.Clone(b[:min(cut, len(b))]))
	if err == nil && n == 0 {
		n, err = s.Find(b)
	}
	if err != nil || n == 0 {
		return Head{}, n, err
	}
	h, err = Parse(b[:n])
	return h, n, err
}

// agree compares with what a server of Go's reads.
func agree(t *testing.T, b []byte, h *Head, body []byte, complete bool) {
	r := bufio.NewReaderSize(bytes.NewReader(b), 2*MaxLen)
	req, err := http.ReadRequest(r)
	if err != nil {
		return // who reads nothing reads nothing else
	}
	if h.Host != "" {
		host, port, err := parseHost(req.Host)
		require.NoError(t, err, "%q", req.Host)
		require.Equal(t, h.Host, host)
		require.Equal(t, h.Port, port)
	}
	content, err := io.ReadAll(req.Body)
	if !complete || err != nil {
		return
	}
	left := r.Buffered() // the next request is read from here
	require.Equal(t, len(b)-bytes.Index(b, []byte("\r\n\r\n"))-4-len(body), left, "where the body ends, "+strconv.Quote(string(content)))
}
