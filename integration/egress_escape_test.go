package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/overheard"
)

// patience ends what a guest waits for in vain. Nothing is decided by it: who waits has been refused, or is not.
const patience = time.Minute

// way is a way out that a guest tries.
type way struct {
	name   string
	try    func(x *escape)
	talks  bool   // it begins with what a rule allows; what must not arrive is the secret
	passes string // why nobody outside the guest could close it
	always string // why it is closed without rules, too
}

// escape is one attempt of a guest. What it tries to carry out contains the secret, if it can.
type escape struct {
	*egress
	t      *testing.T
	secret string // a label of DNS, different for each attempt
	label  string // another one, which is no secret
	rules  bool   // the guest has rules
}

// mark is a moment.
type mark struct{ wire, loopback, web int }

func (e *egress) now() mark {
	return mark{e.wire.Heard(), e.loopback.Heard(), len(e.web.requests(0))}
}

// out returns what has come out of the guest since a moment, of what it must not.
func (x *escape) out(since mark, w way) (found []string) {
	for _, p := range x.wire.Since(since.wire) {
		if why := x.judge(p, w.talks); why != "" {
			found = append(found, why+": "+p.String())
		}
	}
	for _, p := range x.loopback.Since(since.loopback) {
		found = append(found, "on the host itself: "+p.String())
	}
	for _, r := range x.web.requests(since.web) {
		if strings.Contains(strings.ToLower(r), x.secret) || strings.Contains(r, " god.example ") {
			found = append(found, "served: "+r)
		}
	}
	return found
}

// judge says why a packet must not leave the host; empty if it may.
func (x *escape) judge(p overheard.Packet, talks bool) string {
	switch {
	case bytes.Contains(bytes.ToLower(p.Whole), []byte(x.secret)):
		return "the secret"
	case p.Protocol == unix.IPPROTO_TCP && bytes.Contains(bytes.ToLower(x.wire.Text(p)), []byte(x.secret)):
		return "the secret, in pieces"
	case ofTheHost(p):
		return ""
	case !opened(p):
		return "to where no rule leads"
	case len(p.Payload) > 0 && !talks && !isBarrier(p):
		return "bytes that had to wait for a name"
	}
	return ""
}

// ofTheHost reports whether the host's own kernel or vring's resolver sends such packets, whatever the guest does.
func ofTheHost(p overheard.Packet) bool {
	switch p.Protocol {
	case unix.IPPROTO_UDP, unix.IPPROTO_TCP:
		return p.To == netip.MustParseAddrPort(resolver+":53")
	case unix.IPPROTO_ICMPV6: // neighbours, routers, groups
		return len(p.Payload) > 0 && (p.Payload[0] >= 130 && p.Payload[0] <= 137 || p.Payload[0] == 143)
	case unix.IPPROTO_HOPOPTS: // reports of groups
		return p.To.Addr().IsMulticast()
	case unix.IPPROTO_ICMP: // a port of the resolver's client that is closed by now
		return len(p.Payload) > 0 && p.Payload[0] == 3 && p.To.Addr() == netip.MustParseAddr(resolver)
	}
	return false
}

// opened reports whether a packet goes where a name rule leads whose name the guest has asked for.
func opened(p overheard.Packet) bool {
	ports := map[string][]uint16{goodAddress: {80, 443}, goodAddress6: {80, 443}, cdnAddress: {80, 443}, sshAddress: {22}, proxyAddress: {3128, 8080},
		quicAddress: {443}, "203.0.113.34": {22, 80, 443, 7000}}
	switch p.Protocol {
	case unix.IPPROTO_TCP:
		return slices.Contains(ports[p.To.Addr().String()], p.To.Port())
	case unix.IPPROTO_UDP:
		return p.To == netip.MustParseAddrPort(timeAddress+":123") || p.To == netip.MustParseAddrPort(quicAddress+":443")
	}
	return false
}

// barrierText begins the datagrams by which the test knows that all before them was judged.
const barrierText = "barrier "

func isBarrier(p overheard.Packet) bool {
	return p.Protocol == unix.IPPROTO_UDP && bytes.HasPrefix(p.Payload, []byte(barrierText))
}

// asNeighbour is the same attempt by the other guest of the same vring.
func (x *escape) asNeighbour() *escape {
	there := *x.egress
	there.guest = x.neighbour
	other := *x
	other.egress = &there
	return &other
}

// barrier waits until a datagram has left the guest behind all that it has sent before.
func (x *escape) barrier() {
	x.t.Helper()
	heard, text := x.wire.Heard(), []byte(barrierText+x.label)
	conn := x.dial("udp", timeAddress+":123")
	require.NotNil(x.t, conn)
	defer conn.Close()
	_, err := conn.Write(text)
	require.NoError(x.t, err)
	x.await(heard, string(text))
}

// await waits until a datagram has left the host that was not heard before.
func (x *escape) await(heard int, payload string) {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(x.ctx, soon)
	defer cancel()
	arrived := func(p overheard.Packet) bool { return strings.Contains(string(p.Payload), payload) } // several may travel as one
	require.True(x.t, x.wire.Wait(heard, ctx.Done(), arrived), "a datagram did not leave the guest")
}

// dial connects the guest to an address. It returns nil if that is refused.
func (x *escape) dial(network, to string) (conn net.Conn) {
	x.t.Helper()
	dialer := net.Dialer{Timeout: patience}
	err := x.guest.Do(func() (err error) {
		conn, err = dialer.Dial(network, to)
		return err
	})
	if err != nil {
		return nil
	}
	require.NoError(x.t, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

// say connects to an address, says each part in a segment of its own, and returns what is answered first.
func (x *escape) say(to string, parts ...string) (answer string) {
	x.t.Helper()
	conn := x.dial("tcp", to)
	if conn == nil {
		return ""
	}
	defer conn.Close()
	for _, part := range parts {
		if _, err := io.WriteString(conn, part); err != nil {
			return ""
		}
	}
	return readOnce(conn)
}

// readOnce returns what arrives first; empty if the connection ends.
func readOnce(conn net.Conn) string {
	buffer := make([]byte, 1<<16)
	n, _ := conn.Read(buffer)
	return string(buffer[:n])
}

// datagram sends a datagram, if that may be.
func (x *escape) datagram(to, text string) {
	if conn := x.dial("udp", to); conn != nil {
		_, _ = io.WriteString(conn, text)
		conn.Close()
	}
}

// The addresses of the guest's name server.
const (
	guestServer  = "10.0.2.3:53"
	guestServer6 = "[fd00:10:0:2::3]:53"
)

// ask sends a query to a name server, and returns the answer; nil if there is none.
func (x *escape) ask(network, server string, q *dns.Msg) *dns.Msg {
	x.t.Helper()
	conn := x.dial(network, server)
	if conn == nil {
		return nil
	}
	defer conn.Close()
	limit := patience
	if network == "udp" && (server != guestServer && server != guestServer6 || q.Opcode != dns.OpcodeQuery || len(q.Question) != 1) {
		limit = 100 * time.Millisecond // nobody says that it is not answered
	}
	require.NoError(x.t, conn.SetDeadline(time.Now().Add(limit)))
	c := &dns.Conn{Conn: conn, UDPSize: 4096}
	if c.WriteMsg(q) != nil {
		return nil
	}
	m, err := c.ReadMsg()
	if err != nil {
		return nil
	}
	return m
}

// query asks for records of a name.
func query(name string, kind uint16) *dns.Msg { return new(dns.Msg).SetQuestion(dns.Fqdn(name), kind) }

// lookUp asks the guest's name server for a name's addresses of IPv4, and returns them with those that hide in other records.
func (x *escape) lookUp(name string) (addresses []string) {
	x.t.Helper()
	return x.lookUpAs(name, dns.TypeA)
}

func (x *escape) lookUpAs(name string, kind uint16) (addresses []string) {
	x.t.Helper()
	m := x.ask("udp", guestServer, query(name, kind))
	if m == nil {
		return nil
	}
	for _, r := range slices.Concat(m.Answer, m.Ns, m.Extra) {
		switch r := r.(type) {
		case *dns.A:
			addresses = append(addresses, r.A.String())
		case *dns.AAAA:
			addresses = append(addresses, r.AAAA.String())
		}
	}
	return addresses
}

// speakTLS opens a connection with TLS, and asks for the secret by HTTP in it, of a host.
func (x *escape) speakTLS(to string, config *tls.Config, host string) (answer string) {
	x.t.Helper()
	conn := x.dial("tcp", to)
	if conn == nil {
		return ""
	}
	defer conn.Close()
	config = config.Clone()
	config.InsecureSkipVerify = true
	c := tls.Client(conn, config)
	if c.Handshake() != nil {
		return ""
	}
	fmt.Fprintf(c, "GET /%s HTTP/1.1\r\nHost: %s\r\n\r\n", x.secret, host)
	return readOnce(c)
}

// attempt lets the guest try a way, and returns what has come out.
func (e *egress) attempt(t *testing.T, number int, w way, rules bool) []string {
	t.Helper()
	x := &escape{egress: e, t: t, secret: fmt.Sprintf("secret%03d", number), label: fmt.Sprintf("name%03d", number), rules: rules}
	x.barrier()
	since := e.now()
	w.try(x)
	x.barrier()
	found := x.out(since, w)
	if gets := w.passes != "" || !rules && w.always == ""; gets && len(found) == 0 { // there is nothing behind which a server has read what it was sent
		require.Eventually(t, func() bool { found = x.out(since, w); return len(found) > 0 }, soon, time.Millisecond, "it does not get out")
	}
	return found
}

// quietLog is for servers whose clients are up to no good.
func quietLog() *log.Logger { return log.New(io.Discard, "", 0) }
