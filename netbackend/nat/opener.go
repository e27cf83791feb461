package nat

import (
	"fmt"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/guestnet"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// What a guest is denied is told with the option that would allow it, ready to be pasted. It is made here, wherever it is told.

// opening returns the option that opens the destination of a flow to which a verdict is closed, "" for none. It is asked only when a denial is told.
func (p *Port) opening(key flowtable.Key, v policy.Verdict) string {
	switch v {
	case policy.IsClosed:
		return hostOpener(p.shard.Nets, &key)
	case policy.IsNobody, policy.NoWay, policy.Allowed:
		return ""
	}
	return p.openingTold(&key, policy.Told{})
}

// openingTold is opening for a connection whose first bytes were looked at.
func (p *Port) openingTold(key *flowtable.Key, told policy.Told) string {
	r, ok := p.policy.Opener(policy.DestinationOf(key), told)
	if !ok {
		return ""
	}
	return r.ForShell()
}

// hostOpener returns the option that opens a service of the host.
func hostOpener(nets *guestnet.Networks, key *flowtable.Key) string {
	name := spec.ProtoName(key.Proto)
	switch {
	case key.Proto == netpkt.ICMP:
		return fmt.Sprintf("--allow-host %s:%s", name, key.Remote.Netip())
	case nets.IsGateway(&key.Remote):
		return fmt.Sprintf("--allow-host %s:%d", name, key.RemotePort)
	}
	return fmt.Sprintf("--allow-host %s:%s", name, key.RemoteAddrPort())
}
