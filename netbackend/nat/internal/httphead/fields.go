package httphead

import (
	"strings"
)

// maxFields is how many fields a head may have; servers have bounds of a hundred or so.
const maxFields = 200

// fields are those that matter.
type fields struct {
	host    string
	hasHost bool

	length     string
	hasLength  bool
	coding     string
	hasCoding  bool
	upgrade    string
	hasUpgrade bool
}

// parseFields reads field lines up to the empty one.
func parseFields(b []byte) (f fields, err error) {
	for range maxFields {
		line, rest, ok := cutLine(b)
		if !ok {
			return f, errNoHeadEnd
		}
		if line == "" {
			if len(rest) > 0 {
				return f, ErrLine
			}
			return f, nil
		}
		if err := f.add(line); err != nil {
			return f, err
		}
		b = rest
	}
	return f, ErrTooLong
}

// add takes note of a field line.
func (f *fields) add(line string) error {
	name, value, ok := strings.Cut(line, ":")
	if !ok || !isToken(name) { // which a folded line does not begin with
		return ErrLine
	}
	value = strings.Trim(value, " \t")
	switch strings.ReplaceAll(strings.ToLower(name), "_", "-") {
	case "host":
		return once(name, &f.host, &f.hasHost, value, ErrHosts)
	case "content-length":
		return once(name, &f.length, &f.hasLength, value, ErrFraming)
	case "transfer-encoding":
		return once(name, &f.coding, &f.hasCoding, value, ErrFraming)
	case "upgrade":
		if value == "" {
			return ErrUpgrade
		}
		return once(name, &f.upgrade, &f.hasUpgrade, value, ErrUpgrade)
	case "http2-settings":
		return ErrUpgrade
	case "expect":
		return ErrExpect
	case "connection":
		return checkConnection(value)
	}
	return nil
}

// once keeps the value of a field that may be there once, and only by its proper name. Otherwise it returns the error twice.
func once(name string, at *string, has *bool, value string, twice error) error {
	if *has || strings.Contains(name, "_") {
		return twice
	}
	*at, *has = value, true
	return nil
}

// isToken reports whether a text can be the name of a field.
func isToken(text string) bool {
	for i := range len(text) {
		if !isTokenByte(text[i]) {
			return false
		}
	}
	return text != ""
}

// checkConnection refuses options that would have a server on the way take fields away, such as Host.
func checkConnection(value string) error {
	for option := range strings.SplitSeq(value, ",") {
		switch strings.ToLower(strings.Trim(option, " \t")) {
		case "", "close", "keep-alive", "upgrade", "te":
		default:
			return ErrHopByHop
		}
	}
	return nil
}

// body returns what follows the head.
func (f *fields) body(r *requestLine) (b Body, err error) {
	switch {
	case f.hasLength && f.hasCoding:
		return b, ErrFraming
	case f.hasCoding:
		if r.is10 || !strings.EqualFold(f.coding, "chunked") {
			return b, ErrFraming
		}
		b.part = chunkSize
	case f.hasLength:
		if b.left, err = parseLength(f.length); err != nil {
			return b, err
		}
	}
	if !b.IsOver() && (r.method == "GET" || r.method == "HEAD") {
		return Body{}, ErrFraming
	}
	return b, nil
}

// parseLength reads a Content-Length: digits, and nothing else.
func parseLength(text string) (n uint64, err error) {
	if text == "" || len(text) > 18 {
		return 0, ErrFraming
	}
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, ErrFraming
		}
		n = 10*n + uint64(text[i]-'0')
	}
	return n, nil
}
