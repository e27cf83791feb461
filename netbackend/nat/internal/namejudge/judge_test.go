package namejudge

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/guestnet"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/route"
	"github.com/vringnet/vring/netbackend/nat/internal/witness"
	"github.com/vringnet/vring/netbackend/nat/routesocket"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/nat/stats"
)

// judged is a judge with rules that are written with a sign, as +example.org:443; one that begins with a digit is by address.
type judged struct {
	*Judge
	t   testing.TB
	now int64
}

func newJudged(t testing.TB, restrict bool, rules ...string) *judged {
	var list []spec.Rule
	for _, text := range rules {
		parse := spec.ParseNameRule
		if strings.Trim(text[1:2], "0123456789") == "" {
			parse = spec.ParseRule
		}
		r, err := parse(text[1:], text[0] == '+')
		require.NoError(t, err)
		list = append(list, r)
	}
	end := func(text string) ipaddr.Addr { return ipaddr.From(netip.MustParseAddr(text)) }
	nets := guestnet.New(
		guestnet.Network{Prefix: netip.MustParsePrefix("10.0.2.0/24"), Gateway: end("10.0.2.2"), DNS: end("10.0.2.3")},
		guestnet.Network{Prefix: netip.MustParsePrefix("fd00:10:0:2::/64"), Gateway: end("fd00:10:0:2::2"), DNS: end("fd00:10:0:2::3")},
		[6]byte{0x52, 0x55, 10, 0, 2, 2},
	)
	routes := &route.Table{}
	socket, err := routesocket.Open(false)
	require.NoError(t, err)
	routes.Open(socket)
	t.Cleanup(routes.Close)
	p := policy.New(policy.Compile(&policy.Config{Rules: list, Restrict: restrict}, &nets), &nets, routes)
	j := &judged{Judge: &Judge{Policy: &p, Table: witness.New(), Counters: new(stats.Counters)}, t: t}
	p.UseWitness(j.Table, &j.now)
	return j
}

func query(t testing.TB, name string, kind uint16) []byte {
	b, err := new(dns.Msg).SetQuestion(name, kind).Pack()
	require.NoError(t, err)
	return b
}

// ask is what becomes of a query: "passes", or the code of the answer.
func (j *judged) ask(name string, kind uint16) string {
	answer := j.Query(j.now, query(j.t, name, kind))
	if answer == nil {
		return "passes"
	}
	var m dns.Msg
	require.NoError(j.t, m.Unpack(answer))
	require.Equal(j.t, name, m.Question[0].Name)
	require.Empty(j.t, m.Answer)
	return dns.RcodeToString[m.Rcode]
}

// answered is what the guest gets of an answer with records, as they are written in zone files, by type and data.
func (j *judged) answered(name string, kind uint16, records ...string) (code string, got []string) {
	q := query(j.t, name, kind)
	var m dns.Msg
	require.NoError(j.t, m.Unpack(q))
	m.Response = true
	for _, text := range records {
		r, err := dns.NewRR(text)
		require.NoError(j.t, err)
		m.Answer = append(m.Answer, r)
	}
	b, err := m.Pack()
	require.NoError(j.t, err)
	return j.passed(q, b)
}

func (j *judged) passed(q, answer []byte) (code string, got []string) {
	var m dns.Msg
	require.NoError(j.t, m.Unpack(j.Answer(j.now, q, answer)))
	for _, r := range m.Answer {
		got = append(got, dns.TypeToString[r.Header().Rrtype]+" "+strings.TrimPrefix(r.String(), r.Header().String()))
	}
	return dns.RcodeToString[m.Rcode], got
}

// holds reports whether the guest was told an address for a name.
func (j *judged) holds(name, addr string) bool {
	a := ipaddr.From(netip.MustParseAddr(addr))
	return j.Table.Holds(j.now, name, &a)
}

func TestOnlyNamesOfRulesAreAskedFor(t *testing.T) {
	j := newJudged(t, true, "-secret.example.org", "+.example.org:443", "+*.debian.org:80", "-half.example:80", "+half.example", "+mirror-*.example.net", "+198.51.100.0/24")
	for name, want := range map[string]string{
		"example.org.": "passes", "EXAMPLE.org.": "passes", "a.b.example.org.": "passes", "secret.example.org.": "REFUSED", "a.secret.example.org.": "passes",
		"debian.org.": "REFUSED", "deb.debian.org.": "passes", "half.example.": "passes", "mirror-1.example.net.": "passes", "mirror.example.net.": "REFUSED",
		"example.com.": "REFUSED", "notexample.org.": "REFUSED", "org.": "REFUSED", ".": "REFUSED", `a\.example.org.`: "REFUSED", `a\000.example.org.`: "REFUSED",
		"example.org.evil.test.": "REFUSED",
	} {
		require.Equal(t, want, j.ask(name, dns.TypeA), name)
	}
	require.NotZero(t, j.Counters.QueriesDenied)
	j.NXDomain = func() bool { return true }
	require.Equal(t, "NXDOMAIN", j.ask("example.com.", dns.TypeA))
}

func TestWithoutRestrictionOnlyWhatIsDeniedIsRefused(t *testing.T) {
	j := newJudged(t, false, "-.ads.example", "-tcp:web.example:80")
	for name, want := range map[string]string{
		"ads.example.": "REFUSED", "x.ads.example.": "REFUSED", "example.org.": "passes", "web.example.": "passes", ".": "passes",
		"dns.google.": "REFUSED", "use-application-dns.net.": "REFUSED", "x.cloudflare-dns.com.": "REFUSED",
	} {
		require.Equal(t, want, j.ask(name, dns.TypeA), name)
	}
	require.Equal(t, "passes", newJudged(t, true, "+dns.google:443").ask("dns.google.", dns.TypeA), "a rule names it")
	require.Equal(t, "REFUSED", newJudged(t, true, "+.google:443").ask("dns.google.", dns.TypeA), "a rule for more does not mean it")
}

// A record of type HTTPS holds addresses and keys by which the guest would connect without anybody seeing the name.
func TestTypesThatLeadAroundTheRulesHaveNoAnswer(t *testing.T) {
	j := newJudged(t, true, "+example.org")
	for kind, want := range map[uint16]string{
		dns.TypeAAAA: "passes", dns.TypeMX: "passes", dns.TypeTXT: "passes", dns.TypeSRV: "passes", dns.TypeCNAME: "passes",
		dns.TypeHTTPS: "NOERROR", dns.TypeSVCB: "NOERROR", dns.TypeANY: "NOERROR", dns.TypeNULL: "NOERROR", 65280: "NOERROR",
	} {
		require.Equal(t, want, j.ask("example.org.", kind), kind)
	}
	require.Equal(t, "REFUSED", j.ask("example.com.", dns.TypeHTTPS))
	require.EqualValues(t, 5, j.Counters.QueriesWithoutHints)
	q := new(dns.Msg).SetQuestion("example.org.", dns.TypeA)
	q.Question[0].Qclass = dns.ClassCHAOS
	b, err := q.Pack()
	require.NoError(t, err)
	require.NotNil(t, j.Query(0, b))
}

func TestTheNameOfAnAddressIsAskedForIfTheGuestWasToldTheAddress(t *testing.T) {
	j := newJudged(t, true, "+example.org")
	const rev, rev6 = "1.100.51.198.in-addr.arpa.", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa."
	require.Equal(t, "REFUSED", j.ask(rev, dns.TypePTR))
	require.Equal(t, "REFUSED", j.ask(rev6, dns.TypePTR))
	j.answered("example.org.", dns.TypeA, "example.org. 60 A 198.51.100.1")
	j.answered("example.org.", dns.TypeAAAA, "example.org. 60 AAAA 2001:db8::1")
	require.Equal(t, "passes", j.ask(rev, dns.TypePTR))
	require.Equal(t, "passes", j.ask(rev6, dns.TypePTR))
	require.Equal(t, "REFUSED", j.ask(rev, dns.TypeTXT))
	require.Equal(t, "REFUSED", j.ask("2.100.51.198.in-addr.arpa.", dns.TypePTR))
	require.Equal(t, "REFUSED", j.ask("x.100.51.198.in-addr.arpa.", dns.TypePTR))
	require.Equal(t, "passes", newJudged(t, false, "-example.org").ask(rev, dns.TypePTR))
}

func TestAddressesAreRecordedAlongTheAliases(t *testing.T) {
	j := newJudged(t, true, "+example.org")
	records := []string{
		"example.org. 300 CNAME cdn.example.net.", "cdn.example.net. 300 CNAME edge.example.net.", "edge.example.net. 300 A 198.51.100.1", "edge.example.net. 300 A 198.51.100.2",
		"other.example.net. 300 A 198.51.100.3", "cdn.example.net. 300 A 198.51.100.4", "example.org. 300 A 198.51.100.5",
	}
	code, got := j.answered("Example.org.", dns.TypeA, records...)
	require.Equal(t, "NOERROR", code)
	require.Len(t, got, len(records), "it passes as it is")
	require.True(t, j.holds("example.org", "198.51.100.1"))
	require.True(t, j.holds("example.org", "198.51.100.2"))
	for _, a := range []string{"198.51.100.3", "198.51.100.4", "198.51.100.5"} {
		require.False(t, j.holds("example.org", a), "%s is of another name", a)
	}
	require.False(t, j.holds("edge.example.net", "198.51.100.1"), "only the name that was asked counts")
	require.Equal(t, 2, j.Table.Len())
}

func TestEachAliasMustBeListedIfTheRuleSaysSo(t *testing.T) {
	records := []string{"example.org. 300 CNAME cdn.example.net.", "cdn.example.net. 300 A 198.51.100.1"}
	j := newJudged(t, true, "+example.org;chain=listed")
	code, got := j.answered("example.org.", dns.TypeA, records...)
	require.Equal(t, "NOERROR", code)
	require.Empty(t, got)
	require.Zero(t, j.Table.Len())
	require.EqualValues(t, 1, j.Counters.AnswersCut)
	j = newJudged(t, true, "+example.org;chain=listed", "+*.example.net")
	_, got = j.answered("example.org.", dns.TypeA, records...)
	require.Len(t, got, 2)
	require.True(t, j.holds("example.org", "198.51.100.1"))
}

// Who has a name can give it any address: those of networks that the guest cannot reach otherwise are taken out of the answer.
func TestAddressesOfClosedNetworksAreTakenOut(t *testing.T) {
	closed := []string{"127.0.0.1", "0.0.0.0", "10.0.2.2", "10.0.2.77", "169.254.169.254", "100.100.100.200", "168.63.129.16", "255.255.255.255", "224.0.0.1"}
	closed6 := []string{"::1", "::", "fe80::1", "fd00:10:0:2::2", "fd00:ec2::254", "64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1", "::ffff:198.51.100.1", "::127.0.0.1"}
	private, private6 := []string{"10.1.2.3", "192.168.77.7", "172.16.211.1", "100.64.0.1"}, []string{"fd12::1", "64:ff9b::a01:203"}
	ask := func(j *judged, addrs ...string) (got []string) {
		kind := map[bool]uint16{true: dns.TypeAAAA, false: dns.TypeA}[strings.Contains(addrs[0], ":")]
		var records []string
		for _, a := range addrs {
			records = append(records, fmt.Sprintf("example.org. 60 %s %s", dns.TypeToString[kind], a))
		}
		_, got = j.answered("example.org.", kind, records...)
		return got
	}
	for _, list := range [][]string{closed, closed6, private, private6} {
		for _, a := range list {
			j := newJudged(t, true, "+example.org")
			require.Empty(t, ask(j, a), a)
			require.Zero(t, j.Table.Len(), a)
			require.EqualValues(t, 1, j.Counters.AnswersCut)
		}
	}
	for _, a := range append(slices.Clone(closed), closed6...) {
		require.Empty(t, ask(newJudged(t, true, "+example.org;private"), a), a)
	}
	for _, a := range append(slices.Clone(private), private6...) {
		require.Len(t, ask(newJudged(t, true, "+example.org;private"), a), 1, a)
	}
	j := newJudged(t, true, "+example.org")
	require.Equal(t, []string{"A 198.51.100.1", "A 198.51.100.2"}, ask(j, "198.51.100.1", "127.0.0.1", "198.51.100.2"))
	require.True(t, j.holds("example.org", "198.51.100.2"))
	require.Len(t, ask(newJudged(t, true, "+example.org", "+10.1.0.0/16:80"), "10.1.2.3"), 1, "it is open by its address")
	require.Len(t, ask(newJudged(t, false, "-example.com"), "10.1.2.3"), 1, "and here private networks are")
	require.Empty(t, ask(newJudged(t, false, "-example.com", "-10.0.0.0/8"), "10.1.2.3"))
	require.Empty(t, ask(newJudged(t, false, "-example.com"), "127.0.0.1"))
}

func TestAnAddressIsGoodForItsTimeAndSomewhatLonger(t *testing.T) {
	for ttl, want := range map[uint32]time.Duration{
		0: Grace, 60: time.Minute + Grace, 1<<31 - 1: 24*time.Hour + Grace, 1 << 31: Grace, 1<<32 - 1: Grace,
	} {
		j := newJudged(t, true, "+example.org")
		j.answered("example.org.", dns.TypeA, fmt.Sprintf("example.org. %d A 198.51.100.1", ttl))
		j.now = int64(want) - 1
		require.True(t, j.holds("example.org", "198.51.100.1"), ttl)
		j.now++
		require.False(t, j.holds("example.org", "198.51.100.1"), ttl)
	}
	j := newJudged(t, true, "+example.org")
	j.answered("example.org.", dns.TypeA, "example.org. 10 CNAME a.example.", "a.example. 300 A 198.51.100.1")
	j.now = int64(10*time.Second + Grace)
	require.False(t, j.holds("example.org", "198.51.100.1"), "the alias had the shortest time")
}

func TestAnswersThatLieOpenNothing(t *testing.T) {
	q := query(t, "example.org.", dns.TypeA)
	build := func(change func(*dns.Msg)) []byte {
		var m dns.Msg
		require.NoError(t, m.Unpack(q))
		m.Response = true
		r, err := dns.NewRR("example.org. 60 A 198.51.100.1")
		require.NoError(t, err)
		m.Answer = []dns.RR{r}
		change(&m)
		b, err := m.Pack()
		require.NoError(t, err)
		return b
	}
	alias := func(from, to string) dns.RR {
		r, err := dns.NewRR(from + " 60 CNAME " + to)
		require.NoError(t, err)
		return r
	}
	for name, c := range map[string]struct {
		answer []byte
		code   string
	}{
		"another question":        {build(func(m *dns.Msg) { m.Question[0].Name = "example.com." }), "SERVFAIL"},
		"another type":            {build(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA }), "SERVFAIL"},
		"another class":           {build(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }), "SERVFAIL"},
		"another identity":        {build(func(m *dns.Msg) { m.Id++ }), "SERVFAIL"},
		"a query":                 {build(func(m *dns.Msg) { m.Response = false }), "SERVFAIL"},
		"no question":             {build(func(m *dns.Msg) { m.Question = nil }), "SERVFAIL"},
		"two questions":           {build(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), "SERVFAIL"},
		"no message":              {[]byte{1, 2, 3}, "SERVFAIL"},
		"nothing":                 {nil, "SERVFAIL"},
		"an error":                {build(func(m *dns.Msg) { m.Rcode = dns.RcodeNameError }), "NXDOMAIN"},
		"another name":            {build(func(m *dns.Msg) { m.Answer[0].Header().Name = "example.com." }), "NOERROR"},
		"another class of record": {build(func(m *dns.Msg) { m.Answer[0].Header().Class = dns.ClassCHAOS }), "NOERROR"},
		"in another section":      {build(func(m *dns.Msg) { m.Extra, m.Answer = m.Answer, nil }), "NOERROR"},
		"as an authority":         {build(func(m *dns.Msg) { m.Ns, m.Answer = m.Answer, nil }), "NOERROR"},
		"a loop": {build(func(m *dns.Msg) {
			m.Answer = append(m.Answer, alias("example.org.", "a.example."), alias("a.example.", "example.org."))
		}), "NOERROR"},
		"a thousand aliases": {build(func(m *dns.Msg) {
			m.Answer = append([]dns.RR{alias("example.org.", "n0.example.")}, m.Answer...)
			for i := range 1000 {
				m.Answer = append(m.Answer, alias(fmt.Sprintf("n%d.example.", i), fmt.Sprintf("n%d.example.", i+1)))
			}
		}), "NOERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJudged(t, true, "+example.org")
			code, _ := j.passed(q, c.answer)
			require.Equal(t, c.code, code)
			require.Zero(t, j.Table.Len())
		})
	}
}

func TestAnAnswerOfManyAddressesIsBounded(t *testing.T) {
	j := newJudged(t, true, "+example.org")
	var records []string
	for i := range 250 {
		records = append(records, fmt.Sprintf("example.org. 60 A 198.51.100.%d", i))
	}
	_, got := j.answered("example.org.", dns.TypeA, records...)
	require.Len(t, got, maxAddresses)
	require.Equal(t, maxAddresses, j.Table.Len())
	require.EqualValues(t, 1, j.Counters.AnswersCut)
}

// The policy may be another one by the time at which an answer comes.
func TestAnAnswerIsJudgedByTheRulesOfItsTime(t *testing.T) {
	j := newJudged(t, true, "+example.com")
	code, got := j.answered("example.org.", dns.TypeA, "example.org. 60 A 198.51.100.1")
	require.Equal(t, "REFUSED", code)
	require.Empty(t, got)
	require.Zero(t, j.Table.Len())
}

func TestWithoutRulesByNameNothingIsJudged(t *testing.T) {
	j := newJudged(t, true, "+198.51.100.0/24")
	require.Equal(t, "passes", j.ask("example.org.", dns.TypeHTTPS))
	b := []byte{1, 2, 3}
	require.Equal(t, b, j.Answer(0, b, b))
	var none *Judge
	require.Nil(t, none.Query(0, b))
	require.Equal(t, b, none.Answer(0, b, b))
	none.Note(0, b, b)
}

// What the configuration says of a name is not judged, and is known then.
func TestANameOfTheConfigurationIsRecorded(t *testing.T) {
	j := newJudged(t, true, "+api.internal;private")
	q := query(t, "api.internal.", dns.TypeA)
	var m dns.Msg
	require.NoError(t, m.Unpack(q))
	m.Response = true
	r, err := dns.NewRR("api.internal. 60 A 10.1.2.3")
	require.NoError(t, err)
	m.Answer = []dns.RR{r}
	b, err := m.Pack()
	require.NoError(t, err)
	j.Note(0, q, b)
	require.True(t, j.holds("api.internal", "10.1.2.3"))
}

// FuzzAnswer gives a judge answers of any kind: whatever is recorded was asked for, and leads nowhere that is closed.
func FuzzAnswer(f *testing.F) {
	q := query(f, "example.org.", dns.TypeA)
	var m dns.Msg
	require.NoError(f, m.Unpack(q))
	m.Response, m.Id = true, 1
	for _, text := range []string{"example.org. 60 CNAME a.example.", "a.example. 60 A 198.51.100.1", "a.example. 4294967295 A 127.0.0.1", "example.org. 1 AAAA ::ffff:10.0.0.1"} {
		r, err := dns.NewRR(text)
		require.NoError(f, err)
		m.Answer = append(m.Answer, r)
		b, err := m.Pack()
		require.NoError(f, err)
		f.Add(q[2:], b)
	}
	f.Add([]byte{}, []byte{})
	j := newJudged(f, true, "+.example.org", "+a.example;chain=listed", "-b.example")
	f.Fuzz(func(t *testing.T, query, answer []byte) {
		j.Table.Forget()
		query = append([]byte{0, 1}, query...)
		j.Query(0, query)
		got := j.Answer(0, query, answer)
		if len(got) < 12 {
			t.Fatalf("an answer of %d bytes", len(got))
		}
		for _, closed := range []string{"127.0.0.1", "::1", "10.0.2.2", "10.0.0.1", "169.254.169.254", "0.0.0.0"} {
			a := ipaddr.From(netip.MustParseAddr(closed))
			var names witness.Names
			if j.Table.Names(0, &a, &names) > 0 {
				t.Fatalf("%s was recorded", closed)
			}
		}
	})
}

// What a guest writes beside its question reaches no resolver.
func TestAQueryGoesOnWithItsQuestionAlone(t *testing.T) {
	j := newJudged(t, true, "+example.org")
	q := new(dns.Msg).SetQuestion("eXample.org.", dns.TypeAAAA)
	q.CheckingDisabled = true
	q.SetEdns0(1400, true)
	want, err := q.Pack()
	require.NoError(t, err)
	require.Equal(t, want, j.Plain(want))

	secret := &dns.TXT{Hdr: dns.RR_Header{Name: "secret.example.com.", Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{"secret"}}
	q.Answer, q.Ns, q.Extra = []dns.RR{secret}, []dns.RR{secret}, append(q.Extra, secret)
	q.IsEdns0().Option = append(q.IsEdns0().Option, &dns.EDNS0_LOCAL{Code: dns.EDNS0LOCALSTART, Data: []byte("secret")})
	message, err := q.Pack()
	require.NoError(t, err)
	require.Equal(t, want, j.Plain(append(message, "secret"...)))

	for _, unreadable := range [][]byte{{1, 2, 3}, message[:20]} {
		require.Equal(t, unreadable, j.Plain(unreadable))
		require.NotNil(t, j.Query(0, unreadable))
	}
	require.Equal(t, message, newJudged(t, true, "+198.51.100.0/24").Plain(message), "without rules by name")
	require.Equal(t, message, (*Judge)(nil).Plain(message))
}
