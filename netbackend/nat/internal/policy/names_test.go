package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/witness"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// mixed parses rules that are written with a sign: by address if a digit follows, else by name.
func mixed(t testing.TB, texts ...string) (list []spec.Rule) {
	for _, text := range texts {
		parse := spec.ParseNameRule
		if text[1] >= '0' && text[1] <= '9' {
			parse = spec.ParseRule
		}
		r, err := parse(text[1:], text[0] == '+')
		require.NoError(t, err)
		list = append(list, r)
	}
	return list
}

// named is a policy for a guest that was answered names for addresses, each as example.org=198.51.100.1.
func named(t testing.TB, c Config, answers ...string) *Policy {
	p, now := testPolicy(t, c), new(int64)
	p.UseWitness(witness.New(), now)
	for _, a := range answers {
		name, addr, _ := strings.Cut(a, "=")
		p.table.Record(0, name, ipaddr.From(netip.MustParseAddr(addr)), 1)
	}
	return p
}

func destination(proto uint8, to string) Destination {
	return Destination{Endpoint: ipaddr.EndpointFrom(netip.MustParseAddrPort(to)), Proto: proto}
}

func TestANameOpensTheAddressesThatTheGuestWasAnswered(t *testing.T) {
	p := named(t, Config{Restrict: true, Rules: mixed(t, "-bad.example.org:22", "+.example.org:22,443,80,8080;verify=dns", "+tls.example:443,25", "+web.example:80", "+quic.example:443;quic=verify", "+198.51.100.64/32:22")},
		"example.org=198.51.100.1", "bad.example.org=198.51.100.2", "tls.example=198.51.100.3", "web.example=198.51.100.4", "quic.example=198.51.100.5",
		"other.example=198.51.100.6", "example.org=10.1.2.3", "example.org=169.254.169.254", "example.org=127.0.0.1", "example.org=10.0.2.77")
	for _, c := range []struct {
		proto   uint8
		to      string
		verdict Verdict
		proof   Proof
		rule    int
		name    string
	}{
		{protoTCP, "198.51.100.1:22", Allowed, 0, 1, "example.org"}, {protoUDP, "198.51.100.1:22", Allowed, 0, 1, "example.org"},
		{protoTCP, "198.51.100.1:443", Allowed, 0, 1, "example.org"}, {protoTCP, "198.51.100.1:23", IsUnlisted, 0, -1, ""}, {protoICMP, "198.51.100.1:0", IsUnlisted, 0, -1, ""},
		{protoTCP, "198.51.100.2:22", IsDenied, 0, 0, "bad.example.org"}, {protoTCP, "198.51.100.2:8080", Allowed, 0, 1, "bad.example.org"},
		{protoTCP, "198.51.100.3:443", Held, ProofTLS, 2, ""}, {protoTCP, "198.51.100.3:25", Allowed, 0, 2, "tls.example"}, {protoUDP, "198.51.100.3:443", IsUnlisted, 0, -1, ""},
		{protoTCP, "198.51.100.4:80", Held, ProofHTTP, 3, ""}, {protoUDP, "198.51.100.4:80", IsUnlisted, 0, -1, ""},
		{protoUDP, "198.51.100.5:443", Held, ProofQUIC, 4, ""}, {protoTCP, "198.51.100.5:443", Held, ProofTLS, 4, ""},
		{protoTCP, "198.51.100.6:443", IsUnlisted, 0, -1, ""}, {protoTCP, "198.51.100.64:22", Allowed, 0, 5, ""},
		{protoTCP, "10.1.2.3:22", IsUnlisted, 0, -1, ""}, {protoTCP, "169.254.169.254:80", IsUnlisted, 0, -1, ""},
		{protoTCP, "127.0.0.1:22", IsClosed, 0, -1, ""}, {protoTCP, "10.0.2.77:22", IsNobody, 0, -1, ""},
	} {
		d := p.Judge(destination(c.proto, c.to))
		require.Equal(t, c.verdict, d.Verdict, c.to)
		require.Equal(t, []any{c.proof, c.rule, c.name}, []any{d.Proof, d.Rule, d.Name}, "%s %v", c.to, c.proto)
	}
	*p.clock = 1
	require.Equal(t, IsUnlisted, p.Judge(destination(protoTCP, "198.51.100.1:22")).Verdict, "it is over")
}

func TestWhatWasProvedDecides(t *testing.T) {
	p := named(t, Config{Restrict: true, Rules: mixed(t, "-no.example:443", "+good.example:443", "+*.wide.example:443,80")},
		"good.example=198.51.100.1", "other.example=198.51.100.1", "a.wide.example=198.51.100.1", "no.example=198.51.100.1", "b.wide.example=198.51.100.9")
	https := destination(protoTCP, "198.51.100.1:443")
	for name, want := range map[string]Verdict{
		"good.example": Allowed, "GOOD.example.": Allowed, "a.wide.example": Allowed, "no.example": IsDenied,
		"other.example":  IsUnlisted,
		"b.wide.example": IsUnlisted,                                                                       // a right name on an address that it does not have
		"evil.example":   IsUnlisted, "198.51.100.1": IsDenied, "": IsDenied, "good.example:443": IsDenied, // none: the guest was told of what is denied
	} {
		require.Equal(t, want, p.JudgeNamed(https, name, ProofTLS).Verdict, name)
	}
	require.Equal(t, IsUnlisted, p.JudgeNamed(https, "good.example", ProofHTTP).Verdict, "another way of proof")
	require.Equal(t, Allowed, p.JudgeNamed(destination(protoTCP, "198.51.100.1:80"), "a.wide.example", ProofHTTP).Verdict)
	*p.clock = 1 // what was answered is over, and the flow goes on
	require.Equal(t, Allowed, p.JudgeOpened(https, "good.example").Verdict)
	require.Equal(t, IsDenied, p.JudgeOpened(https, "no.example").Verdict)
	require.Equal(t, IsUnlisted, p.JudgeOpened(https, "").Verdict)
}

// Without restriction, an address tells nothing of the name: all connections to the ports of what is denied are looked at.
func TestADeniedNameIsSoughtAtEachAddress(t *testing.T) {
	p := named(t, Config{Rules: mixed(t, "+198.51.100.7:443", "-.ads.example")}, "x.ads.example=198.51.100.1")
	require.Equal(t, Held, p.Judge(destination(protoTCP, "203.0.113.1:443")).Verdict)
	require.Equal(t, ProofHTTP, p.Judge(destination(protoTCP, "203.0.113.1:80")).Proof)
	require.Equal(t, Allowed, p.Judge(destination(protoTCP, "203.0.113.1:22")).Verdict)
	require.Equal(t, IsDenied, p.Judge(destination(protoTCP, "198.51.100.1:22")).Verdict)
	require.Equal(t, IsDenied, p.Judge(destination(protoUDP, "203.0.113.1:443")).Verdict, "clients use TCP then")
	require.Equal(t, Allowed, p.Judge(destination(protoTCP, "198.51.100.7:443")).Verdict, "a rule before says so")
	require.Equal(t, IsDenied, p.JudgeNamed(destination(protoTCP, "203.0.113.1:443"), "y.ads.example", ProofTLS).Verdict)
	require.Equal(t, Allowed, p.JudgeNamed(destination(protoTCP, "203.0.113.1:443"), "example.org", ProofTLS).Verdict)
	require.Equal(t, Allowed, p.JudgeNamed(destination(protoTCP, "203.0.113.1:443"), "", 0).Verdict)
	require.Equal(t, IsDenied, p.JudgeNamed(destination(protoTCP, "198.51.100.1:443"), "", 0).Verdict)
}

// Where a rule allows names by QUIC, those that deny names hold for QUIC, and do not close it.
func TestDeniedNamesAreSoughtInQUICWhereOthersAreAllowedByIt(t *testing.T) {
	answers := []string{"bad.wide.example=198.51.100.1", "good.wide.example=198.51.100.1"}
	p := named(t, Config{Restrict: true, Rules: mixed(t, "-bad.wide.example:443", "+*.wide.example:443;quic=verify")}, answers...)
	https := destination(protoUDP, "198.51.100.1:443")
	d := p.Judge(https)
	require.Equal(t, []any{Held, ProofQUIC, 0}, []any{d.Verdict, d.Proof, d.Rule})
	require.Equal(t, Allowed, p.JudgeNamed(https, "good.wide.example", ProofQUIC).Verdict)
	require.Equal(t, IsDenied, p.JudgeNamed(https, "bad.wide.example", ProofQUIC).Verdict)
	require.Equal(t, IsDenied, p.JudgeNamed(https, "", 0).Verdict)
	require.Equal(t, IsUnlisted, p.Judge(destination(protoUDP, "198.51.100.2:443")).Verdict)
	without := named(t, Config{Restrict: true, Rules: mixed(t, "-bad.wide.example:443", "+*.wide.example:443")}, answers...)
	require.NotEqual(t, Held, without.Judge(https).Verdict)
	for _, verify := range []string{"http", "dns"} {
		p := named(t, Config{Restrict: true, Rules: mixed(t, "-bad.wide.example:443;verify="+verify, "+*.wide.example:443;quic=verify")}, answers...)
		require.Equal(t, IsDenied, p.Judge(https).Verdict, "which QUIC cannot tell")
	}
}

func TestOtherNameServersAreClosedUnderRulesByName(t *testing.T) {
	p := named(t, Config{Rules: mixed(t, "+198.51.100.53/32", "+198.51.100.0/24:853", "+198.51.100.0/24", "-x.example;verify=dns")})
	for to, want := range map[string]Verdict{
		"203.0.113.1:53": IsResolver, "203.0.113.1:853": IsResolver, "8.8.8.8:443": IsResolver, "[2606:4700:4700::1111]:443": IsResolver, "203.0.113.1:443": Allowed,
		"198.51.100.53:53": Allowed, "198.51.100.54:53": IsResolver, "198.51.100.54:853": Allowed, "198.51.100.54:80": Allowed,
	} {
		require.Equal(t, want, p.Judge(destination(protoTCP, to)).Verdict, to)
	}
	require.Equal(t, IsResolver, p.Judge(destination(protoUDP, "203.0.113.1:53")).Verdict)
	require.Equal(t, Allowed, testPolicy(t, Config{}).Judge(destination(protoUDP, "203.0.113.1:53")).Verdict, "but not without such rules")
	require.Equal(t, IsUnlisted, named(t, Config{Restrict: true, Rules: mixed(t, "+a.example")}, "a.example=8.8.8.8").Judge(destination(protoTCP, "8.8.8.8:443")).Verdict)
	require.Equal(t, Held, named(t, Config{Restrict: true, Rules: mixed(t, "+dns.google")}, "dns.google=8.8.8.8").Judge(destination(protoTCP, "8.8.8.8:443")).Verdict)
}

// plainName reports whether a rule names a name, said label by label.
func plainName(pattern, name string) bool {
	if pattern == "*" {
		return true
	}
	base, below := strings.CutPrefix(pattern, "*.")
	base, both := strings.CutPrefix(base, ".")
	p, n := strings.Split(base, "."), strings.Split(name, ".")
	extra := len(n) - len(p)
	if extra < 0 || extra == 0 && below || extra > 0 && !below && !both {
		return false
	}
	for i, label := range p {
		if !plainLabel(label, n[extra+i]) {
			return false
		}
	}
	return true
}

func plainLabel(pattern, label string) bool {
	if pattern == "" || label == "" {
		return strings.Trim(pattern, "*") == "" && label == ""
	}
	if pattern[0] == '*' {
		return plainLabel(pattern[1:], label) || plainLabel(pattern, label[1:])
	}
	return pattern[0] == label[0] && plainLabel(pattern[1:], label[1:])
}

func TestNamesAreFoundAsTheRulesSay(t *testing.T) {
	label := rapid.SampledFrom([]string{"a", "b", "ab", "aab", "ba"})
	wild := rapid.SampledFrom([]string{"a", "b", "ab", "*", "a*", "*b", "a*b", "*a*"})
	pattern := rapid.Custom(func(t *rapid.T) string {
		if rapid.IntRange(0, 19).Draw(t, "all") == 0 {
			return "*"
		}
		labels := append(rapid.SliceOfN(wild, 0, 2).Draw(t, "labels"), label.Draw(t, "last"))
		return rapid.SampledFrom([]string{"", ".", "*."}).Draw(t, "kind") + strings.Join(labels, ".")
	})
	rapid.Check(t, func(t *rapid.T) {
		var list []spec.Rule
		for _, text := range rapid.SliceOfN(pattern, 1, 8).Draw(t, "rules") {
			name, err := spec.ParseName(text)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, spec.Rule{Allow: true, Named: spec.Named{Name: name}})
		}
		name := strings.Join(rapid.SliceOfN(label, 1, 4).Draw(t, "name"), ".")
		want := len(list)
		for i := len(list) - 1; i >= 0; i-- {
			if plainName(list[i].Named.Name, name) {
				want = i
			}
		}
		n := newNameRules(list, nil)
		if got := n.first(name, int32(len(list)), &question{by: byQuestion}); int(got) != want {
			t.Fatalf("%q of %v: got %d, want %d", name, list, got, want)
		}
	})
}

// What a star has stood for is taken back where the rest does not fit, within its own label only.
func TestAStarStandsForAnyPartOfItsLabel(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"a*.ba", "a.a.ba", false}, {"a*.ba", "a.ba", true}, {"a*.ba", "aa.ba", true}, {"a*.ba", "b.ba", false}, {"a*.ba", "a.aba", false},
		{"*.a*.ba", "a.a.ba", true}, {"*.a*.ba", "a.ba", false}, {"*.a*.ba", "b.a.a.ba", true}, {"*.a*.ba", "a.b.ba", false},
		{".a*.ba", "a.a.ba", true}, {".a*.ba", "a.ba", true},
		{"*ab.c", "aab.c", true}, {"*ab.c", "abaab.c", true}, {"*ab.c", "aba.c", false}, {"a*ab.c", "ab.c", false}, {"a*ab.c", "aab.c", true},
		{"a*b*c.d", "abcbc.d", true}, {"a*b*c.d", "abcb.d", false}, {"a*bab.c", "ababab.c", true}, {"a*a.c", "a.c", false},
		{"*a*b.*b*.c", "xaxb.abb.c", true}, {"*a*b.*b*.c", "xaxb.aa.c", false}, {"**a.c", "ba.c", true},
	} {
		name, err := spec.ParseName(c.pattern)
		require.NoError(t, err)
		list := []spec.Rule{{Allow: true, Named: spec.Named{Name: name}}}
		require.Equal(t, c.want, plainName(list[0].Named.Name, c.name), "the plain model: %s of %s", c.name, c.pattern)
		got := newNameRules(list, nil).first(c.name, 1, &question{by: byQuestion})
		require.Equal(t, c.want, got == 0, "%s of %s", c.name, c.pattern)
	}
}

// manyNames is a policy with so many names, of which the guest was answered one.
func manyNames(t testing.TB, n int) (*Policy, Destination) {
	group := make([]string, n)
	for i := range group {
		group[i] = [...]string{"n%d.example.org", ".n%d.example.net", "*.n%d.example.com", "m-%d-*.example"}[i%4]
		group[i] = fmt.Sprintf(group[i], i)
	}
	p := named(t, Config{Restrict: true, Rules: mixed(t, "-x.example;verify=dns", "+@many:443", "+@many:22"), Groups: map[string][]string{"many": group}}, fmt.Sprintf("a.b.n%d.example.net=198.51.100.1", n-3))
	return p, destination(protoTCP, "198.51.100.1:22")
}

func TestADecisionByNameAllocatesNothing(t *testing.T) {
	p, to := manyNames(t, 10000)
	require.Equal(t, Allowed, p.Judge(to).Verdict)
	https := to
	https.Port = 443
	require.Equal(t, Held, p.Judge(https).Verdict)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		p.Judge(to)
		p.Judge(https)
		p.JudgeNamed(https, "a.b.n9997.example.net", ProofTLS)
	}))
}

func BenchmarkNames(b *testing.B) {
	for _, n := range []int{100, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p, to := manyNames(b, n)
			b.ReportAllocs()
			for b.Loop() {
				p.Judge(to)
			}
		})
	}
}
