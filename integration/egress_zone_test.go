package integration

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

// zone is the resolver of the internet. It answers what names have been given, and lies where it is told to.
type zone struct {
	mu    sync.Mutex
	told  map[string][]string // name and type, as "good.example A", to records without the name, as "60 A 203.0.113.10"
	extra map[string][]string // whole records that are in the additional section of an answer
	more  map[string]string   // and in the answer section
}

// serveZone starts the resolver, by UDP and TCP.
func serveZone(e *egress) *zone {
	z := &zone{told: map[string][]string{}, extra: map[string][]string{}, more: map[string]string{}}
	for name, addresses := range map[string][]string{
		"good.example":    {goodAddress, goodAddress6},
		"other.example":   {goodAddress, goodAddress6}, // shares the address of good.example
		"evil.example":    {evilAddress, evilAddress6},
		"fresh.example":   {freshAddress},
		"time.example":    {timeAddress},
		"ssh.example":     {sshAddress},
		"proxy.example":   {proxyAddress},
		"quic.example":    {quicAddress},
		"every.example":   {"203.0.113.34"},
		"dns.google":      {"8.8.8.8"},
		"one.one.one.one": {"1.1.1.1"},
	} {
		for _, a := range addresses {
			z.address(name, 3600, a)
		}
	}
	z.tell("good.example", "3600 HTTPS 1 . alpn=h2 ipv4hint="+hintAddress, "3600 SVCB 1 evil.example. port=8443 ipv4hint="+hintAddress,
		"3600 TXT text")
	var datagrams net.PacketConn
	var connections net.Listener
	require.NoError(e.t, e.internet.Do(func() (err error) {
		if datagrams, err = net.ListenPacket("udp4", resolver+":53"); err != nil {
			return err
		}
		connections, err = net.Listen("tcp", ":53")
		return err
	}))
	for range 60 {
		z.tell("long.example", "3600 TXT "+strings.Repeat("x", 200))
	}
	for _, server := range []*dns.Server{{PacketConn: datagrams}, {Listener: connections}} {
		server.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			m := z.answer(q)
			if server.PacketConn != nil {
				m.Truncate(sizeFor(q))
			}
			_ = w.WriteMsg(m)
		})
		go func() { _ = server.ActivateAndServe() }()
		e.t.Cleanup(func() { _ = server.Shutdown() })
	}
	return z
}

// sizeFor is how long an answer by UDP may be.
func sizeFor(q *dns.Msg) int {
	if o := q.IsEdns0(); o != nil {
		return int(o.UDPSize())
	}
	return dns.MinMsgSize
}

// address gives a name one more address.
func (z *zone) address(name string, ttl uint32, address string) {
	kind := "A"
	if netip.MustParseAddr(address).Is6() {
		kind = "AAAA"
	}
	z.tell(name, fmt.Sprintf("%d %s %s", ttl, kind, address))
}

// tell gives a name more records.
func (z *zone) tell(name string, records ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, r := range records {
		key := name + " " + strings.Fields(r)[1]
		z.told[key] = append(z.told[key], r)
	}
}

// add has answers about a name carry more records in their additional section.
func (z *zone) add(name string, records ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.extra[name] = records
}

// beside has answers about a name carry one more record in their answer section.
func (z *zone) beside(name, more string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.more[name] = more
}

// answer answers a question. What is below cdn.example has an address whatever its name.
func (z *zone) answer(q *dns.Msg) *dns.Msg {
	z.mu.Lock()
	defer z.mu.Unlock()
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	if len(q.Question) == 0 {
		return m
	}
	name := strings.ToLower(strings.TrimSuffix(q.Question[0].Name, "."))
	kind := dns.TypeToString[q.Question[0].Qtype]
	m.Answer = z.chain(name, kind, 0)
	if r := z.more[name]; r != "" {
		m.Answer = append(m.Answer, record(r))
	}
	for _, r := range z.extra[name] {
		m.Extra = append(m.Extra, record(r))
	}
	if o := q.IsEdns0(); o != nil {
		m.SetEdns0(1232, false)
	}
	return m
}

// chain follows the names that names stand for, as far as a resolver does and further.
func (z *zone) chain(name, kind string, depth int) (answer []dns.RR) {
	const longest = 100
	for _, r := range z.told[name+" "+kind] {
		answer = append(answer, record(name+". "+r))
	}
	if kind == "A" && strings.HasSuffix(name, ".cdn.example") && z.unknown(name) {
		answer = append(answer, record(name+". 3600 A "+cdnAddress))
	}
	for _, r := range z.told[name+" CNAME"] {
		answer = append(answer, record(name+". "+r))
		if depth < longest {
			target := strings.TrimSuffix(answer[len(answer)-1].(*dns.CNAME).Target, ".")
			answer = append(answer, z.chain(target, kind, depth+1)...)
		}
	}
	return answer
}

// unknown reports whether nothing was told of a name.
func (z *zone) unknown(name string) bool {
	for _, kind := range []string{"A", "AAAA", "CNAME"} {
		if z.told[name+" "+kind] != nil {
			return false
		}
	}
	return true
}

// record reads a record of a test's.
func record(text string) dns.RR {
	rr, err := dns.NewRR(text)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", text, err))
	}
	return rr
}
