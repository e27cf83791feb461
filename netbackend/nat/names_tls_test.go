package nat_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"net"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	mdns "github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/netbackend/services/dnszone"
)

// newSecretResolver starts a resolver that is asked by TLS, and returns it with whom its certificate comes from.
func newSecretResolver(t *testing.T, how func(query []byte) []byte) (dns.Server, *x509.CertPool) {
	t.Helper()
	server := httptest.NewTLSServer(nil) // for its certificate, which is for 127.0.0.1 and example.com
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: server.TLS.Certificates})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				var length [2]byte
				for {
					if _, err := io.ReadFull(conn, length[:]); err != nil {
						return
					}
					query := make([]byte, binary.BigEndian.Uint16(length[:]))
					if _, err := io.ReadFull(conn, query); err != nil {
						return
					}
					if answer := how(query); answer != nil {
						_, _ = conn.Write(framed(answer))
					}
				}
			}()
		}
	}()
	return dns.Server{Addr: addrPort(l.Addr()), TLS: true, Name: "example.com"}, roots
}

func TestNamesAreAskedByTLS(t *testing.T) {
	r, roots := newSecretResolver(t, func(query []byte) []byte { return answerTo(query, noError) })
	b := newAsking(t, setup{config: func(c *nat.Config) { c.Resolvers, c.DNSRoots = []dns.Server{r}, roots }})
	for i := range uint16(3) {
		require.EqualValues(t, noError, b.asks(1000+i, "name"))
	}
	require.EqualValues(t, 3, b.port.Counters().Queries)
}

// A resolver that cannot prove who it is gets no query, and nobody is asked in its place.
func TestAResolverByTLSThatIsAnotherIsNotAsked(t *testing.T) {
	r, roots := newSecretResolver(t, func(query []byte) []byte { return answerTo(query, noError) })
	r.Name = "other.example"
	b := newAsking(t, setup{config: func(c *nat.Config) { c.Resolvers, c.DNSRoots = []dns.Server{r}, roots }})
	require.EqualValues(t, servFail, b.asks(1000, "name"))
	require.EqualValues(t, 1, b.port.Counters().ResolversLeft)
}

// An answer by TLS may be longer than what a guest takes by UDP.
func TestALongAnswerIsCutToWhatTheGuestTakes(t *testing.T) {
	r, roots := newSecretResolver(t, func(query []byte) []byte { return append(answerTo(query, noError), make([]byte, 600)...) })
	b := newAsking(t, setup{config: func(c *nat.Config) { c.Resolvers, c.DNSRoots = []dns.Server{r}, roots }})
	query := question(7, "name")
	b.ask(1000, query)
	got := b.resolved("an answer that is cut short")
	require.Equal(t, query[:2], got[:2])
	require.NotZero(t, got[2]&0x02)
	require.Len(t, got, len(query))
}

func TestDomainsHaveResolversOfTheirOwn(t *testing.T) {
	usual, own := newResolver(t, "127.0.0.1", always(noError)), newResolver(t, "127.0.0.1", always(noError))
	b := newAsking(t, setup{config: func(c *nat.Config) { c.Split = []dns.Route{{Domain: "corp", Servers: dns.Plain(own.addr)}} }}, usual.addr)
	require.EqualValues(t, noError, b.asks(1000, "corp"))
	require.EqualValues(t, noError, b.asks(1001, "example"))
	require.Equal(t, []int{1, 1}, []int{usual.queries(), own.queries()})
	own.answers(always(servFail))
	require.EqualValues(t, servFail, b.asks(1002, "corp"))
	require.Equal(t, []int{1, 2}, []int{usual.queries(), own.queries()})
	require.Equal(t, "corp", b.port.Resolvers(0).Resolvers[1].Domain)

	b.port.SetPolicy(newPolicy(t, func(c *nat.Config) { c.Resolvers = dns.Plain(usual.addr) }))
	require.EqualValues(t, noError, b.asks(1003, "corp"))
	require.Equal(t, []int{2, 2}, []int{usual.queries(), own.queries()})
}

// named asks for a name, and returns the answer.
func (b *bench) named(id uint16, name string, kind uint16) *mdns.Msg {
	b.t.Helper()
	query := new(mdns.Msg).SetQuestion(name, kind)
	query.Id = id
	packed, err := query.Pack()
	require.NoError(b.t, err)
	b.ask(id, packed)
	m := new(mdns.Msg)
	require.NoError(b.t, m.Unpack(b.resolved("an answer about "+name)))
	return m
}

// The host has a name where the guest can reach something of it.
func TestTheHostHasANameWhereOneOfItsServicesIsOpen(t *testing.T) {
	service, err := spec.ParseHostServices("tcp:5432")
	require.NoError(t, err)
	closed := func(c *nat.Config) { c.Resolvers, c.AllowHost = dns.Plain(porttest.FreePort(t)), nil }
	b := newAsking(t, setup{config: closed})
	require.Equal(t, mdns.RcodeNameError, b.named(1024, "host.vring.internal.", mdns.TypeA).Rcode, "and no resolver is asked")
	b.port.SetPolicy(newPolicy(t, func(c *nat.Config) { closed(c); c.AllowHost = service }))
	for kind, want := range map[uint16]string{mdns.TypeA: "10.0.2.2", mdns.TypeAAAA: "fd00:10:0:2::2"} {
		got := b.named(1024+kind, "host.vring.internal.", kind)
		require.Len(t, got.Answer, 1)
		require.Contains(t, got.Answer[0].String(), want)
	}
	require.Contains(t, b.named(1500, "2.2.0.10.in-addr.arpa.", mdns.TypePTR).Answer[0].String(), "host.vring.internal.")
	b.port.SetPolicy(newPolicy(t, func(c *nat.Config) {
		closed(c)
		c.AllowHost = service
		c.Names = []dnszone.Entry{{Zone: "vring.internal", Name: "host", Addr: netip.MustParseAddr("192.0.2.9")}}
	}))
	require.Contains(t, b.named(1501, "host.vring.internal.", mdns.TypeA).Answer[0].String(), "192.0.2.9", "what the user says goes first")
}

// A host of the guest has the name that it tells by DHCP.
func TestAHostOfTheGuestHasItsName(t *testing.T) {
	b := newAsking(t, setup{config: func(c *nat.Config) { c.Resolvers = dns.Plain(porttest.FreePort(t)) }})
	request, err := dhcpv4.NewDiscovery(net.HardwareAddr(b.MAC[:]), dhcpv4.WithOption(dhcpv4.OptHostName("Web.lan")), dhcpv4.WithRequestedOptions(dhcpv4.OptionRouter))
	require.NoError(t, err)
	request.Options.Update(dhcpv4.Option{Code: dhcpv4.OptionRapidCommit, Value: dhcpv4.OptionGeneric{}})
	b.SendDatagram(porttest.Datagram{Src: netip.MustParseAddrPort("0.0.0.0:68"), Dst: netip.MustParseAddrPort("255.255.255.255:67"), Payload: request.ToBytes()})
	b.Until("a lease", func() bool { return len(b.port.Leases(b.Now())) > 0 })
	b.Datagrams()
	require.Contains(t, b.named(1024, "web.vring.internal.", mdns.TypeA).Answer[0].String(), "10.0.2.15")
	require.Contains(t, b.named(1025, "15.2.0.10.in-addr.arpa.", mdns.TypePTR).Answer[0].String(), "web.vring.internal.")
	require.Equal(t, mdns.RcodeNameError, b.named(1026, "db.vring.internal.", mdns.TypeA).Rcode)
}
