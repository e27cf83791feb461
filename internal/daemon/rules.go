package daemon

import "github.com/vringnet/vring/netbackend/nat"

// RuleCounts returns what was counted for each rule of the policy of a network, in their order, and behind them for what no rule decides: the
// sum of all guests that are behind it. own is that of Network. Any goroutine may call it between Open and the end of Serve.
func (d *Daemon) RuleCounts(own string) (sum []nat.RuleCount) {
	for _, s := range d.all() {
		if s.group.own != own || s.natPort == nil {
			continue
		}
		counts := s.natPort.RuleCounts()
		if sum == nil {
			sum = counts
			continue
		}
		sum = addCounts(sum, counts)
	}
	return sum
}

// addCounts adds what another guest's rules have counted. A guest that has a policy already, which others are about to get, does not count.
func addCounts(sum, more []nat.RuleCount) []nat.RuleCount {
	if len(more) != len(sum) {
		return sum
	}
	for i := range sum {
		if sum[i].Rule == more[i].Rule {
			sum[i].Begun += more[i].Begun
			sum[i].Denied += more[i].Denied
			sum[i].FromGuest += more[i].FromGuest
			sum[i].ToGuest += more[i].ToGuest
		}
	}
	return sum
}
