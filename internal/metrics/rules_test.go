package metrics

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/nat"
)

func TestRulesAreToldByTheirTextsUpToABound(t *testing.T) {
	counts := []nat.RuleCount{{Rule: `--allow-name "a\b"`, Begun: 3}, {Rule: `--allow-name "a\b"`, Begun: 3}}
	for i := range 300 {
		counts = append(counts, nat.RuleCount{Rule: fmt.Sprint("--deny ", i), Denied: 1, FromGuest: 2, ToGuest: 3})
	}
	told := boundRules(append(counts, nat.RuleCount{Begun: 7}))
	require.Len(t, told, maxRules+2)
	require.Equal(t, nat.RuleCount{Rule: otherRules, Denied: 201, FromGuest: 402, ToGuest: 603}, told[maxRules])
	require.Equal(t, nat.RuleCount{Rule: noRule, Begun: 7}, told[maxRules+1])
	require.Empty(t, boundRules(nil))

	p := newPage(func() daemon.Status {
		return daemon.Status{Guests: []daemon.GuestStatus{{Name: "vm", Kind: daemon.KindNAT, NAT: &daemon.NATStatus{Rules: told}}}}
	})
	text, err := p.Text()
	require.NoError(t, err)
	require.Contains(t, string(text), `vring_nat_rule_flows_total{guest="vm",rule="--allow-name \"a\\b\""} 3`+"\n")
	require.Contains(t, string(text), `vring_nat_rule_denied_total{guest="vm",rule="others"} 201`+"\n")
	require.Contains(t, string(text), `vring_nat_rule_flows_total{guest="vm",rule="none"} 7`+"\n")
}
