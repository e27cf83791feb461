package nat_test

import (
	"fmt"
	"strings"
	"testing"

	mdns "github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/netbackend/services/dns"
)

// denials are the messages of notices about denials.
func (b *bench) denials() (all []string) {
	for _, n := range b.Notices() {
		if strings.HasPrefix(n.Message, "the guest was ") {
			all = append(all, n.Message)
		}
	}
	return all
}

// Each denial under rules by name is told with the option that allows it.
func TestADenialByNameIsToldWithTheRuleThatAllowsIt(t *testing.T) {
	r := newResolver(t, "127.0.0.1", func(query []byte) [][]byte { return [][]byte{withAddress(query, 198, 51, 100, 7)} })
	p := newOutbound(t, "via=socks5://PROXY", setup{config: func(c *nat.Config) {
		byName(t, "svc:443")(c)
		c.Resolvers = dns.Plain(r.addr)
	}})
	p.ask(4000, question(1, "elsewhere"))
	require.EqualValues(t, refused, p.resolved("the refusal")[3]&0xf)
	p.ask(4000, question(2, "Elsewhere"))
	p.resolved("the refusal")
	p.ask(4001, question(3, "svc"))
	p.resolved("the answer")
	p.Until("a port that no rule opens is refused", refusedBy(p.Dial(at("198.51.100.7:22"))))
	p.Until("an address without a name is refused", refusedBy(p.Dial(at("198.51.100.8:443"))))
	for _, hello := range [][]byte{clientHello(t, "other.example"), clientHello(t, "")} {
		conn := p.Dial(at("198.51.100.7:443"))
		host := p.accept(socksHello)
		p.says(host, "\x05\x00")
		p.says(host, socksTaken)
		p.Until("the connection is open", func() bool { return conn.State == porttest.Open })
		conn.Send(hello)
		p.Until("it is refused", func() bool { return conn.State == porttest.WasReset })
	}
	require.Equal(t, []string{
		"the guest was refused a name, which --allow-name elsewhere:80,443 opens, or its other ports",
		"the guest was denied a destination, which --allow-name tcp:svc:22 opens",
		"the guest was denied a destination, which --allow tcp:198.51.100.8:443 opens",
		"the guest was denied a server by its name, which --allow-name tcp:other.example:443 opens, once the guest has asked for the name",
		"the guest was denied a server that it did not name, which --allow-name 'tcp:svc:443;verify=dns' opens",
	}, p.denials())
	var why []string
	for _, d := range p.port.Drops() {
		why = append(why, d.Detail)
	}
	require.Contains(t, why, "opened by --allow-name tcp:svc:22")
	require.Contains(t, why, "a connection that must tell its server: it names the server other.example; opened by --allow-name tcp:other.example:443")
	require.Contains(t, why, "a connection that must tell its server: it names no server; opened by --allow-name 'tcp:svc:443;verify=dns'")
}

// refusedBy reports whether a connection was refused.
func refusedBy(c *porttest.TCP) func() bool {
	return func() bool { return c.State == porttest.Refused }
}

// A guest that asks for everything does not fill the log, and what is no name is not told.
func TestTheNamesThatAreToldAreBounded(t *testing.T) {
	b := newAsking(t, setup{config: byName(t, "svc:443")}, newResolver(t, "127.0.0.1", always(noError)).addr)
	for i, name := range []string{"bad name", "x';reboot", "new\nline", ""} {
		b.ask(4000, question(uint16(i+1), name))
		b.resolved("the refusal")
	}
	require.EqualValues(t, refused, b.named(9, "7.100.51.198.in-addr.arpa.", mdns.TypePTR).Rcode)
	require.Empty(t, b.denials())
	for i := range 100 {
		b.ask(4000, question(uint16(i+10), fmt.Sprintf("name%d", i)))
		b.resolved("the refusal")
	}
	require.Len(t, b.denials(), 64)
	b.port.SetPolicy(newPolicy(t, byName(t, "svc:443")))
	b.ask(4000, question(9, "name1"))
	b.resolved("the refusal")
	require.Len(t, b.denials(), 65, "under another policy it is told again")
}
