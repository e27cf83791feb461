package dns_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	mdns "github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/services/dns"
)

// routes reads routes.
func routes(t testing.TB, texts ...string) (list []dns.Route) {
	t.Helper()
	for _, text := range texts {
		r, err := dns.ParseRoute(text)
		require.NoError(t, err)
		list = append(list, r)
	}
	return list
}

// split is a Split with a usual resolver and routes.
func split(t testing.TB, texts ...string) *dns.Split {
	return dns.NewSplit(dns.New(dns.Config{Servers: dns.Plain(netip.MustParseAddrPort("192.0.2.1:53"))}), routes(t, texts...))
}

// asks returns who is asked for a name.
func asks(t testing.TB, s *dns.Split, name string) string {
	t.Helper()
	query, err := new(mdns.Msg).SetQuestion(name, mdns.TypeA).Pack()
	require.NoError(t, err)
	r, _ := s.For(query)
	return first(r, 0)
}

func TestTheLongestDomainDecidesWhoIsAsked(t *testing.T) {
	s := split(t, "corp.example=10.8.0.1", "lab.corp.example=10.9.0.1,10.9.0.2:5353", "10.in-addr.arpa=10.8.0.1", "Example.NET.=10.7.0.1")
	for name, want := range map[string]string{
		"corp.example.": "10.8.0.1:53", "www.corp.example.": "10.8.0.1:53", "WWW.Corp.Example.": "10.8.0.1:53", "a.b.c.corp.example.": "10.8.0.1:53",
		"lab.corp.example.": "10.9.0.1:53", "x.lab.corp.example.": "10.9.0.1:53", "xlab.corp.example.": "10.8.0.1:53",
		"7.0.0.10.in-addr.arpa.": "10.8.0.1:53", "example.net.": "10.7.0.1:53",
		"notcorp.example.": "192.0.2.1:53", "example.": "192.0.2.1:53", ".": "192.0.2.1:53", "corp.example.org.": "192.0.2.1:53",
		// A dot inside a label is none between labels.
		`x\.corp.example.`: "192.0.2.1:53", `x\.lab.corp.example.`: "10.8.0.1:53",
	} {
		require.Equal(t, want, asks(t, s, name), name)
	}
	for _, lie := range [][]byte{nil, make([]byte, 3), make([]byte, 12), append(make([]byte, 12), 63), append(make([]byte, 12), 0xc0, 12)} {
		r, domain := s.For(lie)
		require.Equal(t, s.Rest(), r)
		require.Empty(t, domain)
	}
}

func TestEachDomainKnowsHowItsOwnResolversDo(t *testing.T) {
	s := split(t, "a.example=10.8.0.1,10.8.0.2", "b.example=10.8.0.1")
	query, err := new(mdns.Msg).SetQuestion("x.a.example.", mdns.TypeA).Pack()
	require.NoError(t, err)
	a, domain := s.For(query)
	require.Equal(t, "a.example", domain)
	a.Failed(0, dns.UDP, dns.Server{Addr: netip.MustParseAddrPort("10.8.0.1:53")})
	require.Equal(t, "10.8.0.2:53", asks(t, s, "a.example."))
	require.Equal(t, "10.8.0.1:53", asks(t, s, "b.example."))
	state := s.State(0).Resolvers
	require.Len(t, state, 4)
	require.Equal(t, []string{"", "a.example", "a.example", "b.example"}, []string{state[0].Domain, state[1].Domain, state[2].Domain, state[3].Domain})
	require.True(t, state[1].UDP.Failed)
	require.False(t, state[3].UDP.Failed)
	s.Forgive()
	require.Equal(t, "10.8.0.1:53", asks(t, s, "a.example."))
}

// A domain whose resolvers all fail has nobody else.
func TestAResolverIsAskedForItsDomainOnly(t *testing.T) {
	s := split(t, "a.example=10.8.0.1")
	query, err := new(mdns.Msg).SetQuestion("a.example.", mdns.TypeA).Pack()
	require.NoError(t, err)
	r, _ := s.For(query)
	require.Equal(t, []byte{1}, order(r, 0, dns.UDP))
	require.Equal(t, "192.0.2.1:53", asks(t, s, "example."))
	require.False(t, s.Rest().Knows(0, dns.Server{Addr: netip.MustParseAddrPort("10.8.0.1:53")}))
}

func TestOtherRoutesMakeAnotherVersionAndLeaveTheHealthOfWhatStays(t *testing.T) {
	s := split(t, "a.example=10.8.0.1,10.8.0.2")
	query, err := new(mdns.Msg).SetQuestion("a.example.", mdns.TypeA).Pack()
	require.NoError(t, err)
	r, _ := s.For(query)
	r.Failed(0, dns.UDP, dns.Server{Addr: netip.MustParseAddrPort("10.8.0.1:53")})
	seen := map[uint64]bool{s.Version(0): true}
	s.UseRoutes(routes(t, "a.example=10.8.0.1,10.8.0.2"))
	require.True(t, seen[s.Version(0)], "they are the same")
	for _, next := range [][]string{{"a.example=10.8.0.1"}, {"a.example=10.8.0.2,10.8.0.1"}, {"b.example=10.8.0.1", "a.example=10.8.0.2,10.8.0.1"}, {"b.example=10.8.0.1"}, {}, {"a.example=10.8.0.1"}} {
		s.UseRoutes(routes(t, next...))
		require.False(t, seen[s.Version(0)], next)
		seen[s.Version(0)] = true
	}
	s = split(t, "a.example=10.8.0.1,10.8.0.2")
	r, _ = s.For(query)
	r.Failed(0, dns.UDP, dns.Server{Addr: netip.MustParseAddrPort("10.8.0.1:53")})
	s.UseRoutes(routes(t, "a.example=10.8.0.1,10.8.0.2", "b.example=::1"))
	require.Equal(t, "10.8.0.2:53", asks(t, s, "a.example."))
	s.Rest().Use(nil, "")
	require.NotEqual(t, s.Version(0), split(t).Version(0))
}

func TestRoutesAreReadAndPrinted(t *testing.T) {
	for text, want := range map[string]string{
		"corp.example=10.8.0.1":                  "corp.example=10.8.0.1:53",
		".Corp.Example.=10.8.0.1:5353,::1":       "corp.example=10.8.0.1:5353,[::1]:53",
		"corp.example=tls://10.8.0.1#ns.example": "corp.example=tls://10.8.0.1:853#ns.example",
	} {
		r := routes(t, text)[0]
		require.Equal(t, want, r.String())
		require.Equal(t, r, routes(t, r.String())[0])
	}
	many := "corp.example=" + strings.TrimSuffix(strings.Repeat("10.8.0.1,", 17), ",")
	for _, text := range []string{"", "=", "corp.example", "=10.8.0.1", ".=10.8.0.1", "corp.example=", "corp.example=x", "a b=10.8.0.1", "corp.example=10.8.0.1,", "corp.example=::1,tls://::1", many} {
		_, err := dns.ParseRoute(text)
		require.ErrorContains(t, err, dns.RouteForm, text)
	}
}

func TestRoutesThatCannotBeAreRefused(t *testing.T) {
	require.NoError(t, dns.CheckRoutes(routes(t, "a.example=::1", "b.example=::1")))
	require.ErrorContains(t, dns.CheckRoutes(routes(t, "a.example=::1", "A.example=::2")), "a.example has resolvers already")
	require.ErrorContains(t, dns.CheckRoutes([]dns.Route{{Domain: "a b"}}), "not the name of a domain")
	var many []dns.Route
	for i := range dns.MaxRoutes + 1 {
		many = append(many, routes(t, fmt.Sprintf("d%d.example=::1", i))...)
	}
	require.NoError(t, dns.CheckRoutes(many[1:]))
	require.ErrorContains(t, dns.CheckRoutes(many), "there may be 256")
}

func FuzzFor(f *testing.F) {
	query, err := new(mdns.Msg).SetQuestion("x.corp.example.", mdns.TypeA).Pack()
	require.NoError(f, err)
	f.Add(query)
	f.Add(append(make([]byte, 12), 0xc0, 12))
	s := split(f, "corp.example=10.8.0.1")
	f.Fuzz(func(t *testing.T, message []byte) {
		r, domain := s.For(message)
		if (domain == "corp.example") != (r != s.Rest()) {
			t.Fatalf("%q is asked for %q", domain, message)
		}
		var m mdns.Msg
		if m.Unpack(message) == nil && len(m.Question) == 1 && domain != "" != mdns.IsSubDomain("corp.example.", m.Question[0].Name) {
			t.Fatalf("%q is in %q", m.Question[0].Name, domain)
		}
	})
}
