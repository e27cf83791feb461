package socks

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// peer is a client that has sent all that it sends, and what it was answered.
type peer struct {
	io.Reader
	bytes.Buffer
}

func (p *peer) Read(b []byte) (int, error)  { return p.Reader.Read(b) }
func (p *peer) Write(b []byte) (int, error) { return p.Buffer.Write(b) }

const hello = "\x05\x01\x00"

// named is a request for a name.
func named(name string) string {
	return "\x05\x01\x00\x03" + string(rune(len(name))) + name + "\x00\x50"
}

func TestAHandshakeSaysWhereAClientWantsToBe(t *testing.T) {
	for request, want := range map[string]string{
		"\x05\x01\x00\x01\x0a\x00\x02\x0f\x00\x16":                                     "10.0.2.15:22",
		"\x05\x01\x00\x04\xfd\x00\x00\x10\x00\x00\x00\x02" + zeros(7) + "\x0f\x01\xbb": "[fd00:10:0:2::f]:443",
		"\x05\x01\x00\x04" + zeros(10) + "\xff\xff\x0a\x00\x02\x0f\x00\x16":            "10.0.2.15:22",
		named("vm0"):                    `"vm0":80`,
		named("10.0.2.15"):              "10.0.2.15:80",
		named("fd00:10:0:2::15"):        "[fd00:10:0:2::15]:80",
		named("a\x00\n\"b"):             `"a\x00\n\"b":80`,
		named(strings.Repeat("x", 127)): `"` + strings.Repeat("x", 127) + `":80`,
		"\x05\x01\x00\x03\xff" + strings.Repeat("y", 255) + "\x00\x50": `"` + strings.Repeat("y", 255) + `":80`,
	} {
		for _, methods := range []string{hello, "\x05\x02\x02\x00", "\x05\xff" + zeros(255)} {
			for name, slow := range map[string]func(io.Reader) io.Reader{"at once": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader} {
				rest := strings.NewReader(methods + request + "the guest's")
				p := &peer{Reader: slow(rest)}
				to, err := handshake(p)
				require.NoError(t, err, name)
				require.Equal(t, want, to.String())
				require.Equal(t, "\x05\x00", p.String())
				require.Equal(t, len("the guest's"), rest.Len(), "not a byte more is read")
			}
		}
	}
}

func zeros(n int) string { return strings.Repeat("\x00", n) }

func TestWhatIsNoHandshakeIsRefused(t *testing.T) {
	for sent, want := range map[string]struct {
		answer string
		reply  Reply
		says   string
	}{
		"":                                 {"", 0, "EOF"},
		"\x05":                             {"", 0, "unexpected EOF"},
		"\x05\x02\x00":                     {"", 0, "unexpected EOF"},
		"GET / HTTP/1.1\r\n":               {"", 0, "it does not speak SOCKS 5"},
		"\x04\x01\x00\x50\x0a\x00\x02\x0f": {"", 0, "it does not speak SOCKS 5"},
		"\x05\x00":                         {"\x05\xff", 0, "it wants to authenticate"},
		"\x05\x02\x01\x02":                 {"\x05\xff", 0, "it wants to authenticate"},
		hello + "\x04\x01\x00\x01":         {"\x05\x00", 0, "it does not speak SOCKS 5"},
		hello + "\x05\x01\x00\x01\x0a":     {"\x05\x00", 0, "unexpected EOF"},
		hello + "\x05\x01\x00\x03\x09abc":  {"\x05\x00", 0, "unexpected EOF"},
		hello + "\x05\x02\x00\x01\x0a\x00\x02\x0f\x00\x16": {"\x05\x00", NoSuchCommand, "command 2 is not CONNECT"},
		hello + "\x05\x03\x00\x01\x0a\x00\x02\x0f\x00\x16": {"\x05\x00", NoSuchCommand, "command 3 is not CONNECT"},
		hello + "\x05\x01\x00\x02\x0a\x00\x02\x0f\x00\x16": {"\x05\x00", NoSuchAddressType, "address type 2 is neither"},
		hello + "\x05\x01\x00\x01\x0a\x00\x02\x0f\x00\x00": {"\x05\x00", HostUnreachable, "there is no port 0"},
		hello + named(""): {"\x05\x00", HostUnreachable, "the name is empty"},
	} {
		p := &peer{Reader: strings.NewReader(sent)}
		_, err := handshake(p)
		require.ErrorContains(t, err, want.says, "%q", sent)
		require.Equal(t, want.answer, p.String(), "%q", sent)
		refused := new(refusal)
		require.Equal(t, want.reply != 0, errors.As(err, &refused), "%q", sent)
		require.Equal(t, want.reply, refused.reply)
	}
	require.Equal(t, "\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00", string(message(Refused)))
}

// FuzzHandshake reads whatever clients send. What is understood has a port and an address or a name, and not more was read than the form has.
func FuzzHandshake(f *testing.F) {
	f.Add([]byte(hello + named("vm0") + "rest"))
	f.Add([]byte(hello + "\x05\x01\x00\x01\x0a\x00\x02\x0f\x00\x16"))
	f.Add([]byte("\x05\xff" + zeros(255) + "\x05\x01\x00\x04" + zeros(16) + "\x00\x01"))
	f.Add([]byte("\x04\x01"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		r := bytes.NewReader(sent)
		to, err := handshake(&peer{Reader: r})
		require.LessOrEqual(t, len(sent)-r.Len(), 2+255+4+1+255+2)
		if err != nil {
			return
		}
		require.NotZero(t, to.Port)
		require.NotEqual(t, to.Addr.IsValid(), to.Name != "")
		require.LessOrEqual(t, len(to.Name), 255)
		require.Equal(t, to, sameAgain(t, to))
	})
}

// sameAgain is a target that is asked for again.
func sameAgain(t *testing.T, to Target) Target {
	request := "\x05\x01\x00"
	switch {
	case to.Name != "":
		request += "\x03" + string([]byte{byte(len(to.Name))}) + to.Name
	case to.Addr.Is4():
		request += "\x01" + string(to.Addr.AsSlice())
	default:
		request += "\x04" + string(to.Addr.AsSlice())
	}
	again, err := handshake(&peer{Reader: strings.NewReader(hello + request + string([]byte{byte(to.Port >> 8), byte(to.Port)}))})
	require.NoError(t, err)
	return again
}
