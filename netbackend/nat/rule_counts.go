package nat

import "github.com/vringnet/vring/netbackend/nat/internal/ledger"

// RuleCount is what was counted for one of Config.Rules, or for what none of them decides.
type RuleCount = ledger.Count

// RuleCounts returns what was counted for each rule of the policy that SetPolicy was given last, in their order, and behind them for what no
// rule decides. It is that of the guest, whatever queue pair is asked. What was counted for a rule outlives SetPolicy if the rule stays
// as it is written. Anybody may call it at any time.
func (p *Port) RuleCounts() []RuleCount { return p.guest.ledger.Counts() }
