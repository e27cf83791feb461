package httphead

import (
	"bytes"
	"errors"
	"strconv"
	"strings"

	"github.com/vringnet/vring/netbackend/nat/internal/servername"
)

// MaxLen is how long the head of a request may be, in bytes.
const MaxLen = 16 << 10

// Head is what the head of a request says.
type Head struct {
	Host    string // in lower case, without a final dot; "" for an address, and for HTTP/1.0 without one
	Port    uint16 // of the Host field, 0 for none
	Body    Body   // what follows the head
	Upgrade bool   // the client wants to speak websocket if the server answers by 101
}

// Reasons why something is no request that can be relied on, beside those of package servername.
var (
	ErrNotHTTP   = errors.New("it is no request of HTTP/1.0 or 1.1")
	ErrTooLong   = errors.New("the head of its HTTP request is longer than 16 KiB")
	ErrLine      = errors.New("a line of its HTTP request is malformed")
	ErrMethod    = errors.New("the method of its HTTP request is not passed on")
	ErrTarget    = errors.New("the target of its HTTP request is not passed on")
	ErrNoHost    = errors.New("its HTTP request has no Host field")
	ErrHosts     = errors.New("its HTTP request names several hosts")
	ErrFraming   = errors.New("the length of its HTTP request is ambiguous")
	ErrChunk     = errors.New("a chunk of its HTTP request is malformed")
	ErrUpgrade   = errors.New("its HTTP request asks for another protocol than websocket")
	ErrExpect    = errors.New("its HTTP request has an Expect field")
	ErrHopByHop  = errors.New("the Connection field of its HTTP request names other fields")
	errNoHeadEnd = errors.New("the head has no end")
)

// Scanner finds the end of a head. The zero value stands at its beginning.
type Scanner struct {
	seen int // bytes that were looked at
}

// Find looks at all bytes of the head up to now, at most MaxLen of them, and at what follows it. It returns the length of the head, 0 if
// more bytes are needed. Bytes of before must be the same as then.
func (s *Scanner) Find(b []byte) (n int, err error) {
	for ; s.seen < len(b); s.seen++ {
		i := s.seen
		switch c := b[i]; {
		case i == 0 && !isTokenByte(c):
			return 0, ErrNotHTTP
		case c == '\n' && (i == 0 || b[i-1] != '\r'), c != '\n' && i > 0 && b[i-1] == '\r':
			return 0, ErrLine
		case c == '\n' && i >= 3 && b[i-2] == '\n':
			s.seen++
			return s.seen, nil
		case c < ' ' && c != '\r' && c != '\n' && c != '\t', c == 0x7f:
			return 0, ErrNotHTTP
		}
	}
	if len(b) >= MaxLen {
		return 0, ErrTooLong
	}
	return 0, nil
}

// Parse reads a head, which b is with the empty line at its end, as Find has found it. It keeps nothing of b.
func Parse(b []byte) (Head, error) {
	line, rest, ok := cutLine(b)
	if !ok {
		return Head{}, ErrLine
	}
	r, err := parseRequestLine(line)
	if err != nil {
		return Head{}, err
	}
	f, err := parseFields(rest)
	if err != nil {
		return Head{}, err
	}
	return combine(&r, &f)
}

// cutLine cuts off a line with its end.
func cutLine(b []byte) (line string, rest []byte, ok bool) {
	before, after, ok := bytes.Cut(b, []byte("\r\n"))
	return string(before), after, ok
}

// requestLine is the first line.
type requestLine struct {
	method    string
	authority string // of a target in absolute form
	is10      bool   // HTTP/1.0
}

// parseRequestLine reads METHOD SP TARGET SP VERSION, with one space each.
func parseRequestLine(line string) (r requestLine, err error) {
	parts := strings.Split(line, " ")
	if len(parts) != 3 || parts[2] != "HTTP/1.1" && parts[2] != "HTTP/1.0" {
		return r, ErrNotHTTP
	}
	r.method, r.is10 = parts[0], parts[2] == "HTTP/1.0"
	if !isMethod(r.method) {
		return r, ErrMethod
	}
	r.authority, err = parseTarget(parts[1], r.method)
	return r, err
}

// isMethod reports whether a method is one that goes on. Methods are written in upper case, and which those of other cases are to a
// server is not known.
func isMethod(m string) bool {
	for i := range len(m) {
		if (m[i] < 'A' || m[i] > 'Z') && m[i] != '-' && m[i] != '_' {
			return false
		}
	}
	return m != "" && len(m) <= 32 && m != "CONNECT" && m != "TRACE" && m != "PRI"
}

// parseTarget returns the authority of a target, which is "" in other forms than the absolute one (RFC 9112 section 3.2).
func parseTarget(target, method string) (authority string, err error) {
	for i := range len(target) {
		if target[i] <= ' ' || target[i] >= 0x7f {
			return "", ErrTarget
		}
	}
	switch {
	case target == "*" && method == "OPTIONS":
		return "", nil
	case strings.HasPrefix(target, "//"), strings.HasPrefix(target, `/\`):
		return "", ErrTarget // some read an authority there
	case strings.HasPrefix(target, "/"):
		return "", nil
	}
	const scheme = "http://"
	if len(target) <= len(scheme) || !strings.EqualFold(target[:len(scheme)], scheme) {
		return "", ErrTarget
	}
	authority = target[len(scheme):]
	if end := strings.IndexAny(authority, "/?#"); end >= 0 {
		authority = authority[:end]
	}
	if authority == "" {
		return "", ErrTarget
	}
	return authority, nil
}

// combine says what request line and fields mean together.
func combine(r *requestLine, f *fields) (h Head, err error) {
	if h.Host, h.Port, err = f.name(r); err != nil {
		return h, err
	}
	if h.Body, err = f.body(r); err != nil {
		return h, err
	}
	if f.upgrade == "" {
		return h, nil
	}
	if !strings.EqualFold(f.upgrade, "websocket") || r.is10 || r.method != "GET" || !h.Body.IsOver() {
		return h, ErrUpgrade
	}
	h.Upgrade = true
	return h, nil
}

// name returns the host that a request is for, and its port.
func (f *fields) name(r *requestLine) (host string, port uint16, err error) {
	switch {
	case !f.hasHost && r.is10 && r.authority == "":
		return "", 0, nil
	case !f.hasHost:
		return "", 0, ErrNoHost
	case r.authority != "" && !strings.EqualFold(r.authority, f.host):
		return "", 0, ErrHosts
	}
	host, port, err = parseHost(f.host)
	if errors.Is(err, servername.ErrAddress) {
		return "", port, nil
	}
	return host, port, err
}

// parseHost reads a Host field (RFC 9110 section 7.2).
func parseHost(text string) (host string, port uint16, err error) {
	name, digits := text, ""
	if colon := strings.LastIndexByte(text, ':'); colon >= 0 && !strings.HasSuffix(text, "]") {
		name, digits = text[:colon], text[colon+1:]
		n, err := strconv.ParseUint(digits, 10, 16)
		if err != nil || n == 0 || digits[0] == '0' || digits[0] == '+' {
			return "", 0, servername.ErrBadName
		}
		port = uint16(n)
	}
	if strings.HasPrefix(name, "[") != strings.HasSuffix(name, "]") || strings.Contains(name, ":") && name[0] != '[' {
		return "", 0, servername.ErrBadName
	}
	host, err = servername.Parse(name)
	return host, port, err
}

// isTokenByte reports whether a byte may be in the name of a field (RFC 9110 section 5.6.2).
func isTokenByte(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	return strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
