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

// pasted reads an option as a shell and the command line do.
func pasted(t require.TestingT, option string) spec.Rule {
	flag, text, _ := strings.Cut(option, " ")
	if inside, quoted := strings.CutPrefix(text, "'"); quoted {
		text, quoted = strings.CutSuffix(inside, "'")
		require.True(t, quoted, option)
	}
	require.NotContains(t, text, "'", option)
	require.NotContains(t, text, "\n", option)
	parse := map[string]func(string, bool) (spec.Rule, error){"--allow": spec.ParseRule, "--allow-name": spec.ParseNameRule}[flag]
	require.NotNil(t, parse, option)
	r, err := parse(text, true)
	require.NoError(t, err, option)
	return r
}

// attempt is a connection as the policy sees all of it.
type attempt struct {
	to   Destination
	name string // that it tells, if it is asked
	by   Proof
}

// judge is what becomes of it, and what Opener is told of it.
func (a *attempt) judge(p *Policy) (v Verdict, told Told) {
	d := p.Judge(a.to)
	if d.Verdict != Held {
		return d.Verdict, Told{}
	}
	told = Told{Name: a.name, By: a.by, Looked: true}
	if d.Proof&a.by == 0 {
		told.Name, told.By = "", 0
	}
	return p.JudgeNamed(a.to, told.Name, told.By).Verdict, told
}

var (
	someNames = rapid.SampledFrom([]string{"a.example", "b.example", "c.b.example", "dns.google"})
	someAddrs = rapid.SampledFrom([]string{"198.51.100.1", "198.51.100.2", "2001:db8::1", "10.1.2.3", "169.254.169.254", "8.8.8.8", "64:ff9b::a01:203"})
	somePorts = rapid.SampledFrom([]uint16{22, 53, 80, 443, 853, 8443})
	// whatGuestsTell is what a guest writes where a name should be.
	whatGuestsTell = rapid.OneOf(someNames, rapid.SampledFrom([]string{"", "A.Example.", "x'; reboot #", "a\nb.example", "*", "@apt", "a.example;private", "198.51.100.1", strings.Repeat("x", 300)}), rapid.String())
)

// restricted draws a policy whose guest was answered some names.
func restricted(t *rapid.T, nets *testPolicies) (*Policy, []spec.Rule) {
	var texts []string
	for range rapid.IntRange(1, 4).Draw(t, "rules") {
		name, port := someNames.Draw(t, "name"), somePorts.Draw(t, "port")
		texts = append(texts, rapid.SampledFrom([]string{
			"+" + name + fmt.Sprint(":", port), "-" + name + fmt.Sprint(":", port), "-" + name, "+." + name + ":80,443;verify=tls", "+" + name + ":443,8443;quic=verify;verify=tls",
			"+" + name + ":8443;verify=http", "-192.0.2.0/24:80", "-198.51.100.0/31", "+198.51.100.2/32:22",
		}).Draw(t, "rule"))
	}
	list := mixed(nets.t, append(texts, "+always.example:9")...)
	p := nets.with(Config{Restrict: true, Rules: list})
	for range rapid.IntRange(0, 6).Draw(t, "answers") {
		p.table.Record(0, someNames.Draw(t, "answered"), addrOf(someAddrs.Draw(t, "with")), 10)
	}
	return p, list
}

func addrOf(text string) ipaddr.Addr { return ipaddr.From(netip.MustParseAddr(text)) }

// testPolicies makes policies on one routing table.
type testPolicies struct {
	t    testing.TB
	base *Policy
}

func (m *testPolicies) with(c Config) *Policy {
	p := *m.base
	p.rules = Compile(&c, p.nets)
	p.UseWitness(witness.New(), new(int64))
	return &p
}

// What is printed is read again, allows exactly the connection that was denied, and no other one.
func TestTheRuleThatIsPrintedAllowsWhatWasDenied(t *testing.T) {
	nets := &testPolicies{t: t, base: testPolicy(t, Config{})}
	denied, byName, byAddress := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		p, list := restricted(t, nets)
		a := attempt{
			to:   Destination{Endpoint: ipaddr.Endpoint{Addr: addrOf(someAddrs.Draw(t, "to")), Port: somePorts.Draw(t, "at")}, Proto: rapid.SampledFrom([]uint8{protoTCP, protoUDP}).Draw(t, "proto")},
			name: whatGuestsTell.Draw(t, "told"),
			by:   rapid.SampledFrom([]Proof{0, ProofTLS, ProofHTTP, ProofQUIC}).Draw(t, "by"),
		}
		v, told := a.judge(p)
		if v == Allowed {
			return
		}
		denied++
		opener, ok := p.Opener(a.to, told)
		require.True(t, ok)
		option := opener.ForShell()
		require.Less(t, len(option), 400)
		r := pasted(t, option)
		require.Equal(t, opener, r, option)
		if r.IsByName() {
			byName++
			p.table.Record(0, r.Named.Name, a.to.Addr, 10) // the guest asks for it
		} else {
			byAddress++
		}
		before := *p
		others := othersThan(&a)
		p.rules = nets.with(Config{Restrict: true, Rules: append([]spec.Rule{r}, list...)}).rules
		again := a
		if r.Named.QUIC && a.by == 0 { // what is not looked at yet may tell it
			again.name, again.by = r.Named.Name, ProofQUIC
		} else if !told.Looked && r.IsByName() { // and so may what was denied before
			again.name = r.Named.Name
			again.by = map[spec.Verify]Proof{spec.VerifyTLS: ProofTLS, spec.VerifyHTTP: ProofHTTP}[r.Named.VerifyAt(a.to.Port)]
			if a.to.Proto == protoUDP && again.by == ProofTLS {
				again.by = ProofQUIC
			}
		}
		v, _ = again.judge(p)
		require.Equal(t, Allowed, v, "%s", option)
		for _, o := range others {
			was, _ := o.judge(&before)
			is, _ := o.judge(p)
			require.Equal(t, was, is, "%s changes %v", option, o)
		}
	})
	require.Positive(t, denied)
	require.Positive(t, byName)
	require.Positive(t, byAddress)
}

// Whatever a guest writes where a name should be, what is printed is the name that it was answered, or the address.
func TestWhatAGuestTellsIsPrintedOnlyIfItIsAName(t *testing.T) {
	p := named(t, Config{Restrict: true, Rules: mixed(t, "+x.example:443,8443;verify=tls")}, "a.example=198.51.100.1", "a.example=8.8.8.8", "a.example=10.1.2.3")
	for _, name := range []string{"", "x'; reboot #", "a\nb.example", "*", "@apt", "b.example;private", "198.51.100.1", strings.Repeat("x", 300), "\u202eb.example"} {
		for to, want := range map[string]string{
			"198.51.100.1:443": "--allow-name 'tcp:a.example:443;verify=dns'", "198.51.100.1:8443": "--allow-name tcp:a.example:8443",
			"10.1.2.3:443": "--allow-name 'tcp:a.example:443;verify=dns;private'", "8.8.8.8:443": "--allow tcp:8.8.8.8:443", "203.0.113.1:443": "--allow tcp:203.0.113.1:443",
			"[2001:db8::1]:22": "--allow tcp:[2001:db8::1]:22", "198.51.100.1:53": "--allow tcp:198.51.100.1:53",
		} {
			r, ok := p.Opener(destination(protoTCP, to), Told{Name: name, By: ProofTLS, Looked: true})
			require.True(t, ok)
			require.Equal(t, want, r.ForShell(), "%q", name)
		}
	}
	r, _ := p.Opener(destination(protoTCP, "198.51.100.1:8443"), Told{Name: "B.example.", By: ProofTLS, Looked: true})
	require.Equal(t, "--allow-name 'tcp:b.example:8443;verify=tls'", r.ForShell())
	for _, to := range []string{"127.0.0.1:22", "10.0.2.77:22"} {
		_, ok := p.Opener(destination(protoTCP, to), Told{})
		require.False(t, ok, to)
	}
}

// othersThan are connections beside one: to another port, by another protocol, and to an address that the guest was not answered.
func othersThan(a *attempt) []attempt {
	port, proto, addr := *a, *a, *a
	port.to.Port = 9999
	proto.to.Proto = protoTCP + protoUDP - a.to.Proto
	addr.to.Addr = addrOf("203.0.113.77")
	return []attempt{port, proto, addr}
}
