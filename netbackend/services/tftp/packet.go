package tftp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Port is the server's (RFC 1350, appendix).
const Port = 69

// Kinds of packets (RFC 1350 section 5, RFC 2347).
const (
	opRead  = 1
	opWrite = 2
	opData  = 3
	opACK   = 4
	opError = 5
	opOACK  = 6
)

// Codes of errors (RFC 1350, appendix; RFC 2347).
const (
	codeOther    = 0 // the text says it
	codeNotFound = 1
	codeAccess   = 2
	codeIllegal  = 4
	codeOptions  = 8
)

const (
	headerLen = 4
	// defaultBlock is the size of blocks without the option, in bytes, and minBlock the smallest with it.
	defaultBlock, minBlock = 512, 8
	// MaxBlock is the largest size of blocks (RFC 2348).
	MaxBlock = 65464
	// maxWindow is how many blocks are sent at once at most: so many fit into the buffer of a socket.
	maxWindow = 16
	// maxName is how many bytes the name of a file has at most.
	maxName = 255
	// maxOptions is how many options of a request are read.
	maxOptions = 16
)

// request is what a client wants to read.
type request struct {
	name    string
	mode    string
	options []option // those that are known and right, in the order of the request
}

// option is what the client wants otherwise.
type option struct {
	name  string
	value int64
}

var errIllegal = errors.New("the request is not one of TFTP")

// parseRequest reads what follows the kind of packet. An option that is not known or not right is left out: the server does not acknowledge
// it, and the client does without (RFC 2347).
func parseRequest(p []byte) (r request, err error) {
	fields := bytes.Split(p, []byte{0})
	if len(fields) < 3 || len(fields[len(fields)-1]) > 0 {
		return r, errIllegal // each field ends with a zero
	}
	fields = fields[:len(fields)-1]
	r.name, r.mode = string(fields[0]), strings.ToLower(string(fields[1]))
	for rest := fields[2:min(len(fields), 2+2*maxOptions)]; len(rest) >= 2; rest = rest[2:] {
		if o, ok := parseOption(string(rest[0]), string(rest[1])); ok && !r.has(o.name) {
			r.options = append(r.options, o)
		}
	}
	return r, nil
}

// has reports whether an option was read.
func (r *request) has(name string) bool {
	return slices.ContainsFunc(r.options, func(o option) bool { return o.name == name })
}

// bounds are those of the options that there are (RFC 2348, 2349, 7440).
var bounds = map[string][2]int64{
	"blksize": {minBlock, MaxBlock}, "timeout": {1, 255}, "tsize": {0, 1 << 62}, "windowsize": {1, 65535},
}

func parseOption(name, value string) (o option, ok bool) {
	name = strings.ToLower(name)
	b, known := bounds[name]
	n, err := strconv.ParseUint(value, 10, 63)
	if !known || err != nil || int64(n) < b[0] || int64(n) > b[1] {
		return o, false
	}
	return option{name, int64(n)}, true
}

// CleanName returns the name of a file relative to the root, of parts with one slash between them. Clients name files from the root on,
// with a slash before or without it.
func CleanName(name string) (string, error) {
	switch {
	case len(name) > maxName:
		return "", fmt.Errorf("its name has %d bytes, and %d are the most", len(name), maxName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }):
		return "", errors.New("its name has a character that is not taken")
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
		case "..":
			return "", errors.New("its name leads out of the directory of boot files")
		default:
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return "", errors.New("it has no name")
	}
	return strings.Join(parts, "/"), nil
}

func appendError(p []byte, code uint16, text string) []byte {
	p = binary.BigEndian.AppendUint16(p, opError)
	p = binary.BigEndian.AppendUint16(p, code)
	return append(append(p, text...), 0)
}

func appendOACK(p []byte, options []option) []byte {
	p = binary.BigEndian.AppendUint16(p, opOACK)
	for _, o := range options {
		p = append(append(p, o.name...), 0)
		p = append(strconv.AppendInt(p, o.value, 10), 0)
	}
	return p
}

// seconds is a time-out as the option has it.
func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }
