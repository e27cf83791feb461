package dnszone

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
)

func entries(t testing.TB, texts ...string) (all []Entry) {
	for _, text := range texts {
		e, err := ParseEntry(text)
		require.NoError(t, err)
		all = append(all, e)
	}
	return all
}

// ask asks for the addresses of a name. The answer is nil if nobody answers.
func ask(t testing.TB, z *Zones, name string, kind uint16) *dns.Msg {
	q := new(dns.Msg).SetQuestion(name, kind)
	message, err := q.Pack()
	require.NoError(t, err)
	packed := z.Answer(0, message)
	if packed == nil {
		return nil
	}
	m := new(dns.Msg)
	require.NoError(t, m.Unpack(packed))
	require.Equal(t, q.Id, m.Id)
	require.True(t, m.Response && m.RecursionAvailable)
	require.Equal(t, q.Question, m.Question)
	return m
}

func TestNamesOfAZoneAreAnsweredAndOthersAreNot(t *testing.T) {
	z, err := New(entries(t, "gateway@containers.internal=192.168.127.1", "host@containers.internal=192.168.127.254",
		"/^crc-.*-master-0$/@crc.testing=192.168.126.11", "api@crc.testing=192.168.127.2", "*@apps.testing=192.168.127.2",
		"gateway@apps.testing=192.168.127.3", "six@vring.internal=fd00::1", "@empty.testing"))
	require.NoError(t, err)
	for _, c := range []struct {
		name   string
		kind   uint16
		answer string // an address, "no name", "no address", or "" for nobody
	}{
		{"gateway.containers.internal.", dns.TypeA, "192.168.127.1"},
		{"HOST.Containers.Internal.", dns.TypeA, "192.168.127.254"},
		{"host.containers.internal.", dns.TypeAAAA, "no address"},
		{"host.containers.internal.", dns.TypeMX, "no address"},
		{"other.containers.internal.", dns.TypeA, "no name"},
		{"a.host.containers.internal.", dns.TypeA, "no name"},
		{"containers.internal.", dns.TypeA, ""},
		{"xcontainers.internal.", dns.TypeA, ""},
		{"example.org.", dns.TypeA, ""},
		{"crc-abc-master-0.crc.testing.", dns.TypeA, "192.168.126.11"},
		{"xcrc-abc-master-0.crc.testing.", dns.TypeA, "no name"},
		{"api.crc.testing.", dns.TypeA, "192.168.127.2"},
		{"any.thing.apps.testing.", dns.TypeA, "192.168.127.2"},
		{"gateway.apps.testing.", dns.TypeA, "192.168.127.3"},
		{"six.vring.internal.", dns.TypeAAAA, "fd00::1"},
		{"six.vring.internal.", dns.TypeA, "no address"},
		{"a.empty.testing.", dns.TypeA, "no name"},
	} {
		m := ask(t, z, c.name, c.kind)
		got := ""
		switch {
		case m == nil:
		case m.Rcode == dns.RcodeNameError:
			got = "no name"
		case len(m.Answer) == 0:
			got = "no address"
		default:
			require.Len(t, m.Answer, 1)
			require.Zero(t, m.Answer[0].Header().Ttl)
			fields := strings.Fields(m.Answer[0].String())
			require.Equal(t, c.name, fields[0], "as it was asked")
			got = fields[len(fields)-1]
		}
		require.Equal(t, c.answer, got, "%s %s", c.name, dns.TypeToString[c.kind])
	}
	require.Nil(t, (*Zones)(nil).Answer(0, []byte("x")))
}

func TestWhatIsNoQueryIsNotAnswered(t *testing.T) {
	z, err := New(entries(t, "*@a.testing=192.0.2.1"))
	require.NoError(t, err)
	good, err := new(dns.Msg).SetQuestion("b.a.testing.", dns.TypeA).Pack()
	require.NoError(t, err)
	require.NotNil(t, z.Answer(0, good))
	chaos := new(dns.Msg).SetQuestion("b.a.testing.", dns.TypeA)
	chaos.Question[0].Qclass = dns.ClassCHAOS
	packed, err := chaos.Pack()
	require.NoError(t, err)
	require.Nil(t, z.Answer(0, packed))
	for n := range good {
		require.Nil(t, z.Answer(0, good[:n]), n)
	}
}

func TestEntriesReadAsTheyAreWritten(t *testing.T) {
	for text, want := range map[string]Entry{
		"host@vring.internal=10.0.2.2": {Zone: "vring.internal", Name: "host", Addr: netip.MustParseAddr("10.0.2.2")},
		"a.b@c=fd00::1":                {Zone: "c", Name: "a.b", Addr: netip.MustParseAddr("fd00::1")},
		"*@c=192.0.2.1":                {Zone: "c", Kind: Rest, Addr: netip.MustParseAddr("192.0.2.1")},
		"/x@=,/@c=192.0.2.1":           {Zone: "c", Kind: Pattern, Name: "x@=,", Addr: netip.MustParseAddr("192.0.2.1")},
		"@c.d":                         {Zone: "c.d", Kind: Alone},
	} {
		got, err := ParseEntry(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got)
		require.Equal(t, text, got.String())
	}
	for text, part := range map[string]string{
		"":                 "it has no address",
		"a=192.0.2.1":      "it has no zone",
		"a@b=c":            `"c" is not an IP address`,
		"a@=192.0.2.1":     `"" is no name of a zone`,
		"a@b.=192.0.2.1":   `"b." is no name of a zone`,
		"a@b=fe80::1%eth0": "is no address that a name can have",
		"a..b@c=192.0.2.1": `"a..b" is no name`,
		"/(/@c=192.0.2.1":  "missing closing )",
		"/" + strings.Repeat("a", 257) + "/@c=192.0.2.1": "257 bytes; 256 may be",
		"@": `"" is no name of a zone`,
	} {
		_, err := ParseEntry(text)
		require.ErrorContains(t, err, part, text)
		require.ErrorContains(t, err, "host@vring.internal=10.0.2.2")
	}
	_, err := New(make([]Entry, MaxEntries+1))
	require.ErrorContains(t, err, "1025 DNS names: there may be 1024")
	_, err = New([]Entry{{Zone: "a"}})
	require.ErrorContains(t, err, "is no address")
}

func FuzzAnswer(f *testing.F) {
	z, err := New(entries(f, "*@a.testing=192.0.2.1", "/x+/@testing=192.0.2.2"))
	require.NoError(f, err)
	good, err := new(dns.Msg).SetQuestion("b.a.testing.", dns.TypeA).Pack()
	require.NoError(f, err)
	f.Add(good)
	f.Fuzz(func(t *testing.T, message []byte) {
		if packed := z.Answer(0, message); packed != nil {
			m := new(dns.Msg)
			require.NoError(t, m.Unpack(packed))
			require.True(t, m.Response)
		}
	})
}

func FuzzParseEntry(f *testing.F) {
	f.Add("/x@=,/@c=192.0.2.1")
	f.Add("a.b@c=fd00::1")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := ParseEntry(text)
		if err != nil {
			return
		}
		again, err := ParseEntry(e.String())
		if err != nil || again != e {
			t.Fatalf("%q is %v, which is %v, %v", text, e, again, err)
		}
	})
}

func answers(t testing.TB, z *Zones, name string, kind uint16) (all []string) {
	t.Helper()
	m := ask(t, z, name, kind)
	if m == nil {
		return []string{"nobody"}
	}
	if m.Rcode == dns.RcodeNameError {
		return []string{"no name"}
	}
	for _, rr := range m.Answer {
		all = append(all, strings.Join(strings.Fields(rr.String())[3:], " "))
	}
	return all
}

func TestANameHasAddressesOfBothVersionsTextsAndAnotherName(t *testing.T) {
	z, err := New(entries(t, "a@z.testing=192.0.2.1", "a@z.testing=2001:db8::1", "a@z.testing=192.0.2.9", "b@z.testing=cname:A.z.testing.", "c@z.testing=cname:b.z.testing",
		"t@z.testing=txt:v=spf1 -all", `t@z.testing=txt:say "x" \`, "loop@z.testing=cname:loop.z.testing", "/^m/@z.testing=cname:a.z.testing", "a@z.testing=cname:b.z.testing"))
	require.NoError(t, err)
	require.Equal(t, []string{"A 192.0.2.1"}, answers(t, z, "a.z.testing.", dns.TypeA))
	require.Equal(t, []string{"AAAA 2001:db8::1"}, answers(t, z, "a.z.testing.", dns.TypeAAAA))
	require.Empty(t, answers(t, z, "a.z.testing.", dns.TypeTXT))
	require.Equal(t, []string{"CNAME a.z.testing.", "A 192.0.2.1"}, answers(t, z, "b.z.testing.", dns.TypeA))
	require.Equal(t, []string{"CNAME b.z.testing.", "CNAME a.z.testing.", "AAAA 2001:db8::1"}, answers(t, z, "c.z.testing.", dns.TypeAAAA))
	require.Equal(t, []string{"CNAME b.z.testing."}, answers(t, z, "c.z.testing.", dns.TypeCNAME))
	require.Equal(t, []string{"CNAME a.z.testing.", "A 192.0.2.1"}, answers(t, z, "mail.z.testing.", dns.TypeA))
	require.Len(t, answers(t, z, "loop.z.testing.", dns.TypeA), maxChain+1, "and no more")
	m := ask(t, z, "t.z.testing.", dns.TypeTXT)
	require.Len(t, m.Answer, 2)
	require.Equal(t, []string{"v=spf1 -all"}, m.Answer[0].(*dns.TXT).Txt)
	require.Equal(t, []string{`say \"x\" \\`}, m.Answer[1].(*dns.TXT).Txt, "as the library writes quotes")
}

func TestTheAddressesOfANameAreThoseOfItsAnswers(t *testing.T) {
	z, err := New(entries(t, "a@z.testing=192.0.2.1", "a@z.testing=2001:db8::1", "b@z.testing=cname:a.z.testing", "t@z.testing=txt:x"))
	require.NoError(t, err)
	both := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	for name, want := range map[string][]netip.Addr{"a.z.testing": both, "B.Z.testing": both, "t.z.testing": nil, "other.z.testing": nil} {
		got, is := z.Addresses(0, name)
		require.True(t, is, name)
		require.Equal(t, want, got, name)
	}
	for _, z := range []*Zones{z, nil} {
		_, is := z.Addresses(0, "a.example")
		require.False(t, is)
	}
}

func TestAddressesOfNamesHaveReverseNames(t *testing.T) {
	z, err := New(entries(t, "a@z.testing=192.0.2.1", "b@z.testing=192.0.2.1", "six@z.testing=2001:db8::1", "*@z.testing=192.0.2.7"))
	require.NoError(t, err)
	require.Equal(t, []string{"PTR a.z.testing."}, answers(t, z, "1.2.0.192.in-addr.arpa.", dns.TypePTR))
	require.Empty(t, answers(t, z, "1.2.0.192.IN-ADDR.arpa.", dns.TypeTXT))
	six, err := dns.ReverseAddr("2001:db8::1")
	require.NoError(t, err)
	require.Equal(t, []string{"PTR six.z.testing."}, answers(t, z, six, dns.TypePTR))
	for _, other := range []string{"7.2.0.192.in-addr.arpa.", "2.0.192.in-addr.arpa.", "x.2.0.192.in-addr.arpa.", "1.1.2.0.192.in-addr.arpa.", "in-addr.arpa.", "ip6.arpa.", six[2:], "1." + six, "1-" + six[1:]} {
		require.Equal(t, []string{"nobody"}, answers(t, z, other, dns.TypePTR), other)
	}
}

// What a host calls itself may be anything, and takes no name from others.
func TestHostsHaveTheNamesThatTheyTell(t *testing.T) {
	z, err := New(entries(t, "taken@vring.internal=192.0.2.1"))
	require.NoError(t, err)
	addr := netip.MustParseAddr
	z = z.WithHosts("vring.internal", func(now int64) []Host {
		require.Zero(t, now)
		return []Host{{"Web.lan", addr("10.0.2.15")}, {"web", addr("fd00::15")}, {"taken", addr("10.0.2.16")}, {"a b", addr("10.0.2.17")}, {"", addr("10.0.2.18")}, {"-x", addr("10.0.2.19")}}
	})
	require.Equal(t, []string{"A 10.0.2.15"}, answers(t, z, "web.vring.internal.", dns.TypeA))
	require.Equal(t, []string{"AAAA fd00::15"}, answers(t, z, "WEB.vring.internal.", dns.TypeAAAA))
	require.Equal(t, []string{"PTR web.vring.internal."}, answers(t, z, "15.2.0.10.in-addr.arpa.", dns.TypePTR))
	require.Equal(t, []string{"A 192.0.2.1"}, answers(t, z, "taken.vring.internal.", dns.TypeA))
	for _, none := range []string{"other", `a\ b`, "-x", "web.lan"} {
		require.Equal(t, []string{"no name"}, answers(t, z, none+".vring.internal.", dns.TypeA), none)
	}
	for _, none := range []string{"17", "18", "19"} {
		require.Equal(t, []string{"nobody"}, answers(t, z, none+".2.0.10.in-addr.arpa.", dns.TypePTR), none)
	}
	require.Equal(t, []string{"nobody"}, answers(t, z, "web.example.", dns.TypeA))
}

func TestEntriesWithOtherRecordsAreReadAndPrinted(t *testing.T) {
	for _, text := range []string{"a@z.testing=cname:b.z.testing", "a@z.testing=txt:x", "a@z.testing=txt:a=b@c", "/^(a|b)$/@z.testing=txt:=cname:", "*@z.testing=cname:b.z.testing", "/=x/@z.testing=192.0.2.1"} {
		e, err := ParseEntry(text)
		require.NoError(t, err, text)
		require.Equal(t, text, e.String())
	}
	for text, want := range map[string]string{
		"a@z.testing=cname:": "is no address", "a@z.testing=cname:a b": "is no name", "a@z.testing=txt:": "is no address", "a@z.testing=txt:\x01": "other characters",
		"a@z.testing=txt:" + strings.Repeat("x", 256): "255 may be", "a@z.testing=mx:b": "is not an IP address",
	} {
		_, err := ParseEntry(text)
		require.ErrorContains(t, err, want, text)
	}
	_, err := New(entries(t, "a@z.testing=cname:b.example"))
	require.ErrorContains(t, err, "b.example is a name of no zone")
}
