package nat

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

func TestRulesAndForwardsAreBounded(t *testing.T) {
	forward := func(port int, count uint16) spec.Forward {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, byte(port >> 8), byte(port)}), 8080)
		return spec.Forward{Proto: netpkt.TCP, Host: at, Guest: netip.AddrPortFrom(netip.Addr{}, 80), Count: count}
	}
	var many []spec.Forward
	for i := range MaxForwards {
		many = append(many, forward(i+1, 1))
	}
	rules := slices.Repeat([]spec.Rule{{Prefix: netip.MustParsePrefix("192.0.2.0/24")}}, MaxRules)
	services := slices.Repeat([]spec.HostService{{Proto: netpkt.TCP, Port: 80}}, MaxRules)
	for name, c := range map[string]struct {
		set  func(*Config)
		want string
	}{
		"as many as there may be": {func(c *Config) {
			c.Forwards, c.Rules, c.AllowHost = many, rules, services
			c.MaxSockets = 100_000
		}, ""},
		"one forward more": {func(c *Config) { c.Forwards = append(slices.Clone(many), forward(1<<15, 1)) },
			"4097 forwards with 4097 ports: there may be 4096 forwards, and 131072 ports"},
		"one port more": {func(c *Config) {
			c.Forwards = []spec.Forward{forward(1, 60000), forward(2, 60000), forward(3, MaxForwardPorts+1-2*60000)}
		}, "3 forwards with 131073 ports: there may be 4096"},
		"one rule more": {func(c *Config) { c.Rules = append(slices.Clone(rules), rules[0]) },
			"16385 rules and 0 services of the host: there may be 16384 of each"},
		"one service more": {func(c *Config) { c.AllowHost = append(slices.Clone(services), services[0]) }, "16385 services"},
		"ports beyond": {func(c *Config) {
			c.Forwards = []spec.Forward{forward(1, 100)}
			c.Forwards[0].Host = netip.MustParseAddrPort("127.0.0.1:65500")
		}, "go beyond 65535"},
		"a forward of none": {func(c *Config) { c.Forwards = []spec.Forward{forward(1, 0)} }, "it has no port"},
		"a range of a path": {func(c *Config) {
			c.Forwards = []spec.Forward{{Proto: netpkt.TCP, Path: "/tmp/s", Guest: netip.MustParseAddrPort("10.0.2.15:80"), Count: 2}}
		},
			"a unix socket leads to one port"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := DefaultConfig()
			c.set(&cfg)
			if c.want == "" {
				require.NoError(t, cfg.Check())
				return
			}
			require.ErrorContains(t, cfg.Check(), c.want)
			_, err := cfg.NewPolicy()
			live := CheckForwards([]Config{cfg}, cfg.Forwards)
			require.True(t, err != nil || live != nil, "nor is it taken while the guest is served")
		})
	}
}
