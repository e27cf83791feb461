package proxyclient

import (
	"encoding/base64"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/spec"
)

// connectRequest is the method CONNECT (RFC 9110 section 9.3.6), with Basic authentication (RFC 7617).
func connectRequest(p *spec.Proxy, to *Target) []byte {
	at := to.hostPort()
	text := "CONNECT " + at + " HTTP/1.1\r\nHost: " + at + "\r\n"
	if p.User != "" {
		text += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(p.User+":"+p.Password)) + "\r\n"
	}
	return []byte(text + "\r\n")
}

// maxHead is how many bytes the heads of all of a proxy's responses may have.
const maxHead = 16 << 10

// statusLine is the form of the beginning of a response; a 0 is any digit.
const statusLine = "HTTP/1.0 000"

// head reads the head of a response, byte by byte, so that no byte is looked at twice however it comes.
type head struct {
	total  int // bytes of all heads
	first  int // bytes of the status line that were compared with statusLine
	status int
	inLine int // bytes of the line, without its end
}

// read takes bytes of the head up to its empty line.
func (h *head) read(b []byte) (used int, next answer, reply []byte, err *Failure) {
	for i, c := range b {
		if h.total++; h.total > maxHead {
			return i, nil, nil, faulty(unix.ECONNREFUSED, "the proxy's response has no end")
		}
		if h.first < len(statusLine) {
			if !h.takeStatus(c) {
				return i, nil, nil, faulty(unix.ECONNREFUSED, "the proxy does not speak HTTP/1")
			}
			continue
		}
		switch {
		case c == '\n' && h.inLine == 0 && h.status < 200 && h.status != 101:
			*h = head{total: h.total} // another response follows (RFC 9110 section 15.2)
		case c == '\n' && h.inLine == 0:
			return i + 1, nil, nil, failureOf(h.status)
		case c == '\n':
			h.inLine = 0
		case c != '\r':
			h.inLine++
		}
	}
	return len(b), h.read, nil, nil
}

// takeStatus compares a byte with the one of statusLine that is due.
func (h *head) takeStatus(c byte) bool {
	want := statusLine[h.first]
	isDigit := '0' <= c && c <= '9'
	if want == '0' && !isDigit || want != '0' && c != want {
		return false
	}
	if h.first >= len(statusLine)-3 {
		h.status = 10*h.status + int(c-'0')
	}
	h.first++
	h.inLine++
	return true
}

// failureOf says what a final status of HTTP means, nil if there is a connection.
func failureOf(status int) *Failure {
	switch {
	case 200 <= status && status <= 299:
		return nil
	case status == 407:
		return faulty(unix.EACCES, "the proxy does not take us: 407, it wants a user name and a password, or others")
	case status == 401 || status == 403 || status == 451:
		return &Failure{unix.EACCES, "the proxy forbids it: " + digits(status), false}
	case status == 502 || status == 503 || status == 504:
		return &Failure{unix.EHOSTUNREACH, "the proxy does not get there: " + digits(status), false}
	}
	return &Failure{unix.ECONNREFUSED, "the proxy refuses: " + digits(status), false}
}

// digits is a status of three digits as text.
func digits(status int) string {
	return string([]byte{'0' + byte(status/100%10), '0' + byte(status/10%10), '0' + byte(status%10)})
}
