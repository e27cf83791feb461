package shard

import (
	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// Learn takes note of which host of the guest a frame comes from, by its packed MAC address, and that what is made next goes
// there.
func (t *Turn) Learn(mac uint64) {
	if t.From == hosts.Any || !t.Hosts.Is(t.From, mac) {
		t.From = t.Meet(mac)
	}
	t.To = t.From
}

// Meet returns the host with a packed MAC address, hosts.Any if no host can have it.
func (t *Turn) Meet(mac uint64) hosts.ID {
	const group = 1 << 40
	if mac&group != 0 || mac == 0 || mac == hosts.PackMAC(t.Cfg.GatewayMAC) {
		return hosts.Any
	}
	return t.Hosts.Meet(mac, t.Now)
}

// LearnAddress takes note that a host uses an address. Connections that were waiting for that are begun at once.
func (t *Turn) LearnAddress(a *ipaddr.Addr, id hosts.ID) {
	if !t.Hosts.Learn(a, id, t.Now) {
		return
	}
	t.FoundMore()
	t.Hooks.Located()
	if t.Alone() {
		return
	}
	for _, q := range t.Pairs.shards {
		if q != &t.Shard {
			q.Wake() // its connections may wait for that
		}
	}
}

// FoundMore reports whether hosts of the guest were found since it was asked last.
func (s *Shard) FoundMore() bool {
	before := s.found
	s.found = s.Hosts.Found()
	return s.found != before
}

// FollowHosts lets flows follow addresses that have become another host's: a flow in which the guest has nothing to say would
// not show it. It does so seldom, for all flows are looked at.
func (t *Turn) FollowHosts() {
	if t.followed != t.Hosts.Moved() && t.Now >= t.followAt {
		t.moveFlows()
	}
}

func (t *Turn) moveFlows() {
	const pause = int64(100e6)
	t.followed, t.followAt = t.Hosts.Moved(), t.Now+pause
	t.Flows.ForEach(t.Owner, func(f *Flow) {
		if user := t.Hosts.User(&f.Key.Guest); user != hosts.Any {
			f.Host = user
		}
	})
}

// moved takes note that the packets of a flow come from another host than before.
func (t *Turn) moved(f *Flow) {
	if t.From == hosts.Any {
		return
	}
	f.Host = t.From
	t.LearnAddress(&f.Key.Guest, f.Host)
}
