package nat

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/route"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/routesocket"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/services/dns"
)

// rules parses rules that are written with their flag as a sign: + for --allow, - for --deny.
func rules(t testing.TB, texts ...string) (list []spec.Rule) {
	for _, text := range texts {
		r, err := spec.ParseRule(text[1:], text[0] == '+')
		require.NoError(t, err)
		list = append(list, r)
	}
	return list
}

// judged returns what the policy of cfg says of a destination.
func judged(t *testing.T, cfg *Config, proto uint8, to netip.AddrPort) policy.Verdict {
	var routes route.Table
	socket, err := routesocket.Open(false)
	require.NoError(t, err)
	routes.Open(socket)
	defer routes.Close()
	nets := networksOf(cfg)
	p := policy.New(cfg.policy().rules, &nets, &routes)
	return p.Judge(policy.Destination{Endpoint: ipaddr.EndpointFrom(to), Proto: proto}).Verdict
}

func TestRulesThatCouldNeverMatterAreRefused(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Rules = rules(t, "+127.0.0.1:80", "+127.0.0.0/8", "-10.0.2.0/24", "+10.0.2.2:80")
	cfg.Rules = append(cfg.Rules, spec.Rule{}, spec.Rule{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Last: 80})
	err := cfg.Check()
	require.ErrorContains(t, err, "6 errors occurred")
	require.ErrorContains(t, err, "rule 127.0.0.1/32:80: rules do not open the host's loopback; name the service by --allow-host")
	require.ErrorContains(t, err, "rule 10.0.2.2/32:80: that is the guest's own network")

	cfg.Rules = rules(t, "+[::1]:80", "-fd00:10:0:2::7", "+fd00:10:0:2::/64")
	require.ErrorContains(t, cfg.Check(), "3 errors occurred")

	cfg.Rules = rules(t, "-127.0.0.0/8", "+0.0.0.0/0", "-10.0.0.0/8", "+169.254.169.254", "-::1", "+::/0", "-fd00::/8")
	require.NoError(t, cfg.Check())
}

func TestAResolverMayBeAMetadataServiceThatTheGuestCannotName(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Resolvers = dns.Plain(netip.MustParseAddrPort("168.63.129.16:53"))
	to, ok := newRelay(&cfg).Rest().Next(0, dns.UDP, nil)
	require.True(t, ok)
	require.Equal(t, cfg.Resolvers[0], to)
	for _, port := range []string{"53", "80", "32526"} {
		v := judged(t, &cfg, netpkt.UDP, netip.MustParseAddrPort("168.63.129.16:"+port))
		require.Equal(t, policy.IsUnlisted, v, port)
	}
}

// Its owner may have handed a flow over in a turn that began under the old policy, when the adopter had judged its own already.
func TestAFlowThatMovesIsJudgedByAPolicyThatAnyPairAdoptedLately(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Queues = 2
	ports, err := NewPairs(cfg)
	require.NoError(t, err)
	for _, p := range ports {
		defer func() { require.NoError(t, p.Close()) }()
	}
	adopter, other := ports[1], ports[0]
	adopter.shard.Connected = true
	arrive := func(port uint16) *shard.Flow {
		to := netip.MustParseAddr("192.0.2.7")
		f, _ := adopter.shard.Flows.Create(&flowtable.Key{Remote: ipaddr.From(to), GuestPort: port, Proto: netpkt.ICMP}, adopter.shard.Owner, func(uint32) {})
		require.NotNil(t, f)
		adopter.ledger.Created(f)
		f.FD, f.State = -1, shard.StateActive
		adopter.adopt(f)
		return f
	}
	const second = int64(1e9)
	adopter.shard.LastTurn = 100 * second
	require.Equal(t, shard.StateActive, arrive(1).State)
	cfg.Rules = rules(t, "-192.0.2.0/24")
	adopter.policy.Replace(cfg.policy().rules)
	require.Equal(t, shard.StateActive, arrive(2).State, "nothing has changed lately")
	other.turn.Begin(100*second, nil)
	other.adoptPolicy(cfg.policy())
	other.review.JudgeSome(&other.turn)
	adopter.shard.LastTurn += second / 2
	require.Equal(t, shard.StateDead, arrive(3).State)
}
