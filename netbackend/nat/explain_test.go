package nat_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// explain asks the engine what becomes of a flow to a target.
func (b *bench) explain(target string) nat.Explanation {
	b.t.Helper()
	to, err := nat.ParseTarget(target)
	require.NoError(b.t, err)
	return b.port.Explain(to)
}

// explained are the options of an engine whose policy is explained.
func explained(t *testing.T) setup {
	return setup{config: func(c *nat.Config) {
		services, err := spec.ParseHostServices("tcp:22")
		require.NoError(t, err)
		c.AllowHost = services
		c.Redirects = redirects(t, "tcp:10.0.2.100:80=127.0.0.1:8080", "10.0.2.101=127.0.0.1")
		for _, text := range []string{"+192.0.2.7:443", "-192.0.2.0/24", "+169.254.7.7"} {
			r, err := spec.ParseRule(text[1:], text[0] == '+')
			require.NoError(t, err)
			c.Rules = append(c.Rules, r)
		}
	}}
}

func TestWhatBecomesOfAFlowIsExplained(t *testing.T) {
	b := newBench(t, explained(t))
	for target, want := range map[string]nat.Explanation{
		"tcp:10.0.2.2:22":            {Allowed: true, Why: "it is a service of the host that was opened", By: "--allow-host tcp:22", Owner: "the host's loopback"},
		"tcp:[fd00:10:0:2::2]:22":    {Allowed: true, Why: "it is a service of the host that was opened", By: "--allow-host tcp:22", Owner: "the host's loopback"},
		"udp:10.0.2.2:22":            {Why: "it is a service of the host, which is closed unless it is opened", OpenBy: "--allow-host udp:22", Owner: "the host's loopback"},
		"tcp:127.0.0.1:22":           {Why: "it is a service of the host, which is closed unless it is opened", OpenBy: "--allow-host tcp:127.0.0.1:22", Owner: "the host's loopback"},
		"tcp:192.0.2.7:443":          {Allowed: true, Why: "the first rule that matches opens it", By: "--allow 192.0.2.7/32:443", Owner: "the internet"},
		"tcp:192.0.2.7:80":           {Why: "the first rule that matches closes it", By: "--deny 192.0.2.0/24", OpenBy: "--allow tcp:192.0.2.7:80", Owner: "the internet"},
		"icmp:192.0.2.7":             {Why: "the first rule that matches closes it", By: "--deny 192.0.2.0/24", OpenBy: "--allow icmp:192.0.2.7", Owner: "the internet"},
		"tcp:[::ffff:192.0.2.7]:443": {Allowed: true, Why: "the first rule that matches opens it", By: "--allow 192.0.2.7/32:443", Owner: "the internet"},
		"udp:198.51.100.1:9":         {Allowed: true, Why: "no rule matches, and what is not the host's is open", Owner: "the internet"},
		"tcp:192.168.77.7:80":        {Allowed: true, Why: "no rule matches, and what is not the host's is open", Owner: "a private network"},
		"tcp:169.254.7.7:80":         {Allowed: true, Why: "the first rule that matches opens it", By: "--allow 169.254.7.7/32", Owner: "the host's link, or a cloud's metadata"},
		"tcp:169.254.169.254:80":     {Why: "it is closed unless a rule opens it: by --restrict, or since it is link-local or a cloud's metadata", OpenBy: "--allow tcp:169.254.169.254:80", Owner: "the host's link, or a cloud's metadata"},
		"tcp:10.0.2.77:80":           {Why: "it is in the guest's own network, where nobody has that address", Owner: "the guest's own network"},
		"tcp:10.0.2.100:80":          {Allowed: true, Why: "a redirect leads there", By: "--redirect tcp:10.0.2.100:80=127.0.0.1:8080", Owner: "the host's loopback"},
		"tcp:10.0.2.100:81":          {Why: "it is in the guest's own network, where nobody has that address", Owner: "the guest's own network"},
		"udp:10.0.2.101:9":           {Allowed: true, Why: "a redirect leads there", By: "--redirect 10.0.2.101=127.0.0.1", Owner: "the host's loopback"},
		"icmp:10.0.2.101":            {Allowed: true, Why: "vring answers echo requests to its own addresses"},
		"udp:10.0.2.3:53":            {Allowed: true, Why: "it is the name server: vring asks the host's resolvers, or those of --dns"},
		"tcp:10.0.2.3:53":            {Allowed: true, Why: "it is the name server: vring asks the host's resolvers, or those of --dns"},
		"udp:10.0.2.2:67":            {Allowed: true, Why: "it is the DHCP server, which vring is itself"},
		"icmp:10.0.2.2":              {Allowed: true, Why: "vring answers echo requests to its own addresses"},
	} {
		got := b.explain(target)
		require.Equal(t, want.Allowed && want.Owner != "", got.Host.IsValid(), target)
		got.Host, got.Source = want.Host, want.Source
		if want.Allowed {
			require.Contains(t, got.Why, want.Why) // the host may have no way there
			got.Why = want.Why
		}
		require.Equal(t, want, got, target)
	}
	require.Equal(t, "127.0.0.1:22", b.explain("tcp:10.0.2.2:22").Host.String())
	require.Equal(t, "127.0.0.1", b.explain("tcp:10.0.2.2:22").Source.String())
	require.Empty(t, b.port.Snapshot(b.Now()).Flows, "no flow is begun")
}

func TestAWayThatTheHostHasNotIsExplained(t *testing.T) {
	if inNamespace(t) {
		return
	}
	b := newBench(t, explained(t)) // on a host that has its loopback only
	x := b.explain("udp:198.51.100.1:9")
	require.True(t, x.Allowed)
	require.Equal(t, "no rule matches, and what is not the host's is open; but the host has no way there: network is unreachable", x.Why)
	require.False(t, x.Source.IsValid())
}

func TestAnExplanationFollowsANewPolicy(t *testing.T) {
	b := newBench(t, explained(t))
	require.Equal(t, "--deny 192.0.2.0/24", b.explain("tcp:192.0.2.7:80").By)
	b.port.SetPolicy(newPolicy(t, func(c *nat.Config) { c.Restrict = true }))
	b.Turn() // a new policy calls for none
	x := b.explain("tcp:192.0.2.7:80")
	require.Equal(t, "--allow tcp:192.0.2.7:80", x.OpenBy)
	require.Empty(t, x.By)
	require.Contains(t, x.Why, "--restrict")
}

func TestATargetIsOneAddress(t *testing.T) {
	for text, says := range map[string]string{
		"192.0.2.1:80": "no protocol", "sctp:192.0.2.1:80": "no protocol", "tcp:192.0.2.1": "not an ip:port", "tcp:192.0.2.1:0": "no port 0",
		"icmp:192.0.2.1:8": "", "tcp:192.0.2.0/24:80": "", "tcp:[fe80::1%eth0]:80": "no zone", "udp:224.0.0.251:5353": "a group",
		"udp:255.255.255.255:67": "a group", "icmp:": "", "": "no protocol", "tcp:host:0": "not a port", "tcp:host:": "not a port", "tcp:host:80:90": "not a port", "tcp:host": "not a port", "icmp:example.org": "", "tcp:ex ample.org:80": "",
	} {
		_, err := nat.ParseTarget(text)
		require.ErrorContains(t, err, says, text)
		require.ErrorContains(t, err, "want "+nat.TargetForm)
	}
}
