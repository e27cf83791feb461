package nat_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// withAddress is an answer that gives the name an address for a minute.
func withAddress(query []byte, addr ...byte) []byte {
	b := answerTo(query, noError)
	binary.BigEndian.PutUint16(b[6:], 1)
	return append(append(b, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4), addr...)
}

// byName restricts a guest to names, each written as --allow-name.
func byName(t *testing.T, texts ...string) func(*nat.Config) {
	return func(c *nat.Config) {
		c.Restrict = true
		for _, text := range texts {
			r, err := spec.ParseNameRule(text, true)
			require.NoError(t, err)
			c.Rules = append(c.Rules, r)
		}
	}
}

func TestAnAnswerOpensWhatARuleNames(t *testing.T) {
	r := newResolver(t, "127.0.0.1", func(query []byte) [][]byte { return [][]byte{withAddress(query, 198, 51, 100, 7)} })
	rules := setup{config: byName(t, "svc:9;verify=dns")}
	b, other := newAsking(t, rules, r.addr), newAsking(t, rules, r.addr)
	explain := func(b *bench, to string) nat.Explanation {
		target, err := nat.ParseTarget(to)
		require.NoError(t, err)
		return b.port.Explain(target)
	}
	require.False(t, explain(b, "tcp:198.51.100.7:9").Allowed)
	b.ask(4000, question(1, "elsewhere"))
	require.EqualValues(t, refused, b.resolved("the refusal")[3]&0xf)
	require.Zero(t, r.queries(), "a query can carry data, so nobody is asked for what no rule names")
	require.False(t, explain(b, "tcp:198.51.100.7:9").Allowed)

	b.ask(4001, question(2, "svc"))
	require.EqualValues(t, noError, b.resolved("the answer")[3]&0xf)
	x := explain(b, "tcp:198.51.100.7:9")
	require.True(t, x.Allowed)
	require.Equal(t, "--allow-name svc:9;verify=dns", x.By)
	require.False(t, explain(b, "tcp:198.51.100.7:10").Allowed)
	require.False(t, explain(b, "tcp:198.51.100.8:9").Allowed)
	require.False(t, explain(other, "tcp:198.51.100.7:9").Allowed, "what one guest was answered opens nothing for another")
	require.EqualValues(t, 1, b.port.Counters().QueriesDenied)
}

func TestWhatBecomesOfANameIsExplained(t *testing.T) {
	r := newResolver(t, "127.0.0.1", func(query []byte) [][]byte { return [][]byte{withAddress(query, 198, 51, 100, 7)} })
	names := setup{config: func(c *nat.Config) {
		denied, err := spec.ParseNameRule("bad.svc", false)
		require.NoError(t, err)
		c.Rules = append(c.Rules, denied)
		byName(t, "svc:443", "svc:9;via=socks5://127.0.0.1:1080", ".svc:80")(c)
		c.Names, c.AllowHost = nil, []spec.HostService{{Proto: tcp, Port: 22}}
	}}
	b := newAsking(t, names, r.addr)
	nothingYet := "; the guest was answered no address of it yet, or none that is still good"
	for to, want := range map[string]nat.Explanation{
		"tcp:svc:443": {
			Allowed: true, Why: "the first rule by name that matches opens it, unless a rule by address comes before" + nothingYet,
			By: "--allow-name svc:443", Proof: []string{"tls"},
			Name: &nat.NameExplained{MayAsk: true, Why: "the name server answers, for a rule allows the name", By: "--allow-name svc:443"},
		},
		"tcp:SVC.:25": {
			Why:  "no rule opens the port for the name, and what no rule opens is closed" + nothingYet,
			Name: &nat.NameExplained{MayAsk: true, Why: "the name server answers, for a rule allows the name", By: "--allow-name svc:443"},
		},
		"udp:svc:9": {
			Why: "how it is to leave the host, via=socks5://127.0.0.1:1080, is a way for TCP only" + nothingYet, By: "--allow-name svc:9;via=socks5://127.0.0.1:1080",
			Way:  way(t, "via=socks5://127.0.0.1:1080", nil),
			Name: &nat.NameExplained{MayAsk: true, Why: "the name server answers, for a rule allows the name", By: "--allow-name svc:443"},
		},
		"tcp:a.svc:80": {
			Allowed: true, Why: "the first rule by name that matches opens it, unless a rule by address comes before" + nothingYet,
			By: "--allow-name .svc:80", Proof: []string{"http"},
			Name: &nat.NameExplained{MayAsk: true, Why: "the name server answers, for a rule allows the name", By: "--allow-name .svc:80"},
		},
		"tcp:bad.svc:80": {
			Why: "the name server refuses to answer, for the first rule that has the name denies it", By: "--deny-name bad.svc",
			Name: &nat.NameExplained{Why: "the name server refuses to answer, for the first rule that has the name denies it", By: "--deny-name bad.svc"},
		},
		"tcp:elsewhere:80": {
			Why:  "the name server refuses to answer, for no rule allows the name",
			Name: &nat.NameExplained{Why: "the name server refuses to answer, for no rule allows the name"},
		},
		"tcp:dns.google:443": {
			Why:  "the name server refuses to answer, for it is the name of another name server, which is closed while there are rules by name",
			Name: &nat.NameExplained{Why: "the name server refuses to answer, for it is the name of another name server, which is closed while there are rules by name"},
		},
		"tcp:host.vring.internal:22": {
			Allowed: true, Why: "it is a service of the host that was opened", By: "--allow-host tcp:22",
			Name: &nat.NameExplained{MayAsk: true, Why: "the configuration answers the name, whatever rules say", Addresses: []nat.AddressExplained{
				{Addr: b.Gateway, Allowed: true, Why: "it is a service of the host that was opened", By: "--allow-host tcp:22"},
				{Addr: b.Gateway6, Allowed: true, Why: "it is a service of the host that was opened", By: "--allow-host tcp:22"},
			}},
		},
	} {
		require.Equal(t, want, b.explain(to), to)
	}
	require.Zero(t, r.queries(), "nobody is asked")

	b.ask(4001, question(2, "svc"))
	require.EqualValues(t, noError, b.resolved("the answer")[3]&0xf)
	x := b.explain("tcp:svc:443")
	require.Equal(t, []nat.AddressExplained{{Addr: netip.MustParseAddr("198.51.100.7"), Allowed: true, Why: "the first rule that matches opens it", By: "--allow-name svc:443"}}, x.Name.Addresses)
	require.True(t, x.Allowed)
	require.Equal(t, []string{"tls"}, x.Proof)
	require.Equal(t, []string{"tls"}, b.explain("tcp:198.51.100.7:443").Proof, "an address is explained with it, too")
	x = b.explain("tcp:svc:9")
	require.Equal(t, "via=socks5://127.0.0.1:1080", x.Way.String())
	require.Empty(t, x.Proof)
	require.False(t, b.explain("tcp:svc:10").Name.Addresses[0].Allowed)
}

func TestAnAddressOfTheHostIsNotTold(t *testing.T) {
	r := newResolver(t, "127.0.0.1", func(query []byte) [][]byte { return [][]byte{withAddress(query, 127, 0, 0, 1)} })
	b := newAsking(t, setup{config: byName(t, "svc;verify=dns;private")}, r.addr)
	query := question(1, "svc")
	b.ask(4000, query)
	got := b.resolved("the answer")
	require.EqualValues(t, noError, got[3]&0xf)
	require.Zero(t, binary.BigEndian.Uint16(got[6:]), "records")
	require.EqualValues(t, 1, b.port.Counters().AnswersCut)
}

// An exception from nothing is a mistake, and one that its author learns of.
func TestANameThatOpensNothingIsRefused(t *testing.T) {
	c := nat.DefaultConfig()
	byName(t, "svc")(&c)
	require.NoError(t, c.Check())
	c.Restrict = false
	require.ErrorContains(t, c.Check(), "it opens nothing")
	c.NameGroups = []spec.NameGroup{{Name: "mine", Names: []string{"a.example"}}}
	for text, want := range map[string]string{"@mine": "", "@apt": "", "@nobody": `there is no group "nobody"`} {
		c.Rules, c.Restrict = nil, true
		byName(t, text)(&c)
		if err := c.Check(); want == "" {
			require.NoError(t, err, text)
		} else {
			require.ErrorContains(t, err, want)
		}
	}
}
