package udp

import (
	"github.com/vringnet/vring/netbackend/nat/internal/bootserver"
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// IsForBoot reports whether a flow leads to the server of boot files, which is the router's own: the policy says nothing of it.
func (e *Engine) IsForBoot(key *flowtable.Key) bool { return e.cfg.Boot.Find(key) != nil }

// associateBoot makes a flow to the server of boot files. What finds no room is dropped: clients ask again.
func (e *Engine) associateBoot(t *shard.Turn, key *flowtable.Key, server *bootserver.Server) (*shard.Flow, shard.Where) {
	if !t.MayBegin() || !t.AdmitFlow(shard.ClassAssociations) || !t.AdmitSocket() {
		return nil, shard.Nowhere
	}
	fd, err := server.Begin()
	if err != nil {
		t.Drop(&t.Counters.BootRefused)
		return nil, shard.Nowhere
	}
	f, at := t.CreateWith(key, fd, shard.StateActive, 0, shard.ClassAssociations, e.begin(association{}))
	if f != nil {
		t.Counters.UDPFlows++
	}
	t.Began(f, at)
	return f, at
}
