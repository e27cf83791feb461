package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"
)

// Requests come from programs of the user. One that a web page has made a browser or a proxy send is not theirs, so it is refused by what
// only such a request has.

// admit returns why a request is not looked at.
func admit(r *http.Request) error {
	host, _, _ := strings.Cut(r.Host, ":") // a port is that of a proxy before the socket
	if !slices.Contains([]string{"vring", "localhost", ""}, host) {
		return failed(http.StatusForbidden, "the request is for host %q: a unix socket is no host of the network; ask http://vring%s", cut(r.Host), cut(r.URL.Path))
	}
	for _, name := range []string{"Origin", "Sec-Fetch-Site"} {
		if r.Header.Get(name) != "" {
			return failed(http.StatusForbidden, "the request has %s: it comes from a web page, which may not control vring; ask from a program", name)
		}
	}
	return nil
}

// checkType returns why a body is not read.
func checkType(r *http.Request, body []byte) error {
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" {
		return failed(http.StatusUnsupportedMediaType, "Content-Encoding %q: send the body as it is", cut(encoding))
	}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := params["charset"]
	if len(body) > 0 && (err != nil || kind != "application/json" || charset != "" && !strings.EqualFold(charset, "utf-8")) {
		return failed(http.StatusUnsupportedMediaType, "Content-Type %q: send JSON, with Content-Type: application/json", cut(r.Header.Get("Content-Type")))
	}
	return nil
}

// cut is a text of the client's that an answer repeats.
func cut(text string) string {
	const most = 100
	return cutAt(text, most)
}

// cutAt is a text of which so many bytes are told at most.
func cutAt(text string, most int) string {
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}

// maxNested is how deep objects and lists lie in each other.
const maxNested = 8

// read reads the body of a request strictly: what is not understood is a mistake, not a setting that is left out.
func read[T any](body []byte) (v T, err error) {
	if !utf8.Valid(body) {
		return v, unread("it is no text in UTF-8")
	}
	if text := bytes.TrimSpace(body); len(text) == 0 || bytes.Equal(text, []byte("null")) {
		return v, unread("it is empty")
	}
	if err := checkNames(body); err != nil {
		return v, err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return v, unread("%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return v, nil
}

// unread tells why the body of a request cannot be read.
func unread(format string, args ...any) error {
	return failed(http.StatusBadRequest, "the body of the request: %s; GET /v1/openapi.yaml tells what is wanted", fmt.Sprintf(format, args...))
}

// level is an object or a list that has begun.
type level struct {
	names map[string]bool // that it has, without a difference of case; nil for a list
	named bool            // a value comes next, for a name that was read
}

// checkNames returns why a text is not one value of JSON in which each object has each of its names once. Package encoding/json would take
// the last one of several, and one in another case for the same.
func checkNames(body []byte) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	levels := []level{{}} // that of the value itself
	for values := 0; ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) && len(levels) == 1 && values == 1 {
			return nil
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return unread("it is no JSON: it ends too early")
		}
		if err != nil {
			return unread("it is no JSON: %v", err)
		}
		if len(levels) == 1 {
			if values++; values > 1 {
				return unread("something follows the value")
			}
		}
		if levels, err = follow(levels, token); err != nil {
			return err
		}
	}
}

// follow returns the levels behind a token.
func follow(levels []level, token json.Token) ([]level, error) {
	in := &levels[len(levels)-1]
	switch token {
	case json.Delim('}'), json.Delim(']'):
		return levels[:len(levels)-1], nil
	}
	if in.names != nil && !in.named {
		name := strings.ToLower(token.(string)) // which the decoder has made sure of
		if in.names[name] {
			return nil, unread("%q is given twice", cut(name))
		}
		in.names[name], in.named = true, true
		return levels, nil
	}
	in.named = false
	switch token {
	case json.Delim('{'):
		levels = append(levels, level{names: map[string]bool{}})
	case json.Delim('['):
		levels = append(levels, level{})
	}
	if len(levels) > maxNested {
		return nil, unread("it is nested too deep")
	}
	return levels, nil
}
