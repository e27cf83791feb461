package nat

import (
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/vringnet/vring/netbackend/nat/audit"
	"github.com/vringnet/vring/netbackend/nat/internal/bootserver"
	"github.com/vringnet/vring/netbackend/nat/internal/dhcp"
	"github.com/vringnet/vring/netbackend/nat/internal/forwardset"
	"github.com/vringnet/vring/netbackend/nat/internal/gate"
	"github.com/vringnet/vring/netbackend/nat/internal/groups"
	"github.com/vringnet/vring/netbackend/nat/internal/ledger"
	"github.com/vringnet/vring/netbackend/nat/internal/measure"
	"github.com/vringnet/vring/netbackend/nat/internal/multicast"
	"github.com/vringnet/vring/netbackend/nat/internal/namerelay"
	"github.com/vringnet/vring/netbackend/nat/internal/ping"
	"github.com/vringnet/vring/netbackend/nat/internal/proof"
	"github.com/vringnet/vring/netbackend/nat/internal/quicproof"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/source"
	"github.com/vringnet/vring/netbackend/nat/internal/stray"
	"github.com/vringnet/vring/netbackend/nat/internal/tcp"
	"github.com/vringnet/vring/netbackend/nat/internal/udp"
	"github.com/vringnet/vring/netbackend/nat/internal/witness"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/netbackend/services/dnsconn"
)

// guest is what the queue pairs of one guest share, sorted by the part that owns it. connectParts gives each part of each queue pair
// its own, by a pointer; what is Port's, Port reaches here. Everything in it is safe for use by the threads of all pairs.
type guest struct {
	pairs shard.Pairs // of the shards

	advertiseAt atomic.Int64         // of Layer
	sources     *source.Guest        // of Keeper
	gates       gate.Gates           // of Keeper
	tcp         *tcp.Guest           // of Engine
	udp         *udp.Guest           // of Engine
	ping        ping.Guest           // of Engine
	names       *namerelay.Guest     // of Relay
	witness     *witness.Table       // of Policy
	ledger      *ledger.Guest        // of Keeper
	proof       *proof.Guest         // of Inspector
	quic        *quicproof.Guest     // of Inspector
	reflector   *multicast.Reflector // of Reflector
	leases      dhcp.Leases          // of Server
	boot        *bootserver.Server   // of Finder; nil for none

	neighbour         Neighbour    // its place among others
	primary, primary6 netip.Addr   // what it is promised
	prefix6           netip.Prefix // in which it chooses addresses

	// Of Port.
	forwards  forwardset.Forwards
	dns       *dns.Split
	told      stray.Guest
	policy    atomic.Pointer[Policy] // what SetPolicy has been given last
	repoliced atomic.Int64           // when a queue pair adopted it last, 0 for never
}

// newGuest makes what the queue pairs of a guest share, with the ports of its forwards open. cfg was checked.
func newGuest(cfg *Config) (*guest, error) {
	g := &guest{dns: newRelay(cfg)}
	err := g.pairs.SetUp(cfg.MaxFlows, &cfg.Kernel, cfg.InitialSequence)
	if err != nil {
		return nil, err
	}
	if g.reflector, err = cfg.openGroups(); err != nil {
		return nil, err
	}
	bound, err := listenAll(cfg)
	if err != nil {
		groups.CloseReflector(g.reflector)
		return nil, err
	}
	g.forwards.Begin(bound, cfg.Queues, &g.pairs.OfForwards)
	g.gates.Begin(forwardset.ListenersOf(bound))
	g.leases = newLeases(cfg, g.pairs.Hosts)
	g.neighbour, g.primary, g.primary6, g.prefix6 = cfg.Neighbour, cfg.Guest, cfg.Guest6, cfg.Prefix6
	if lan := g.neighbour.LAN; lan != nil {
		lan.join(g)
	}
	g.sources, g.tcp, g.udp, g.ping = source.NewGuest(), tcp.NewGuest(g.pairs.Flows), udp.NewGuest(g.pairs.Flows), ping.NewGuest(g.pairs.Flows)
	g.witness = witness.New()
	g.ledger = ledger.NewGuest(g.pairs.Flows, cfg.recorder(), g.witness)
	g.policy.Store(g.entered(cfg.policy()))
	g.names = namerelay.NewGuest(g.dns, dnsconn.New(dnsconn.Config{Roots: cfg.DNSRoots, Dial: g.dialResolver}), cfg.resolvers)
	g.useZones(g.policy.Load().zones)
	if cfg.DNSCache {
		g.names.UseCache()
	}
	g.proof, g.quic = proof.NewGuest(g.pairs.Flows), quicproof.NewGuest(g.pairs.Flows)
	if cfg.BootRoot != "" {
		g.boot = bootserver.New(cfg.BootFile, cfg.MTU)
	}
	if cfg.Measure {
		g.tcp.Pattern = measure.NewPattern()
		g.udp.Pattern = g.tcp.Pattern
	}
	return g, nil
}

// recorder is what takes what the guest does; nil for nobody.
func (c *Config) recorder() *audit.Recorder {
	if c.Audit == nil {
		return nil
	}
	return c.Audit()
}

// close closes what newGuest has opened, of a guest that has no queue pair yet.
func (g *guest) close() {
	g.leave()
	g.forwards.CloseAll(&g.pairs.Memory)
	groups.CloseReflector(g.reflector)
	g.names.Close()
	g.boot.Close()
}

// leave ends that the guest is one of a LAN.
func (g *guest) leave() {
	if lan := g.neighbour.LAN; lan != nil {
		lan.leave(g)
	}
}

// newPorts makes the queue pairs of a guest, or none.
func (g *guest) newPorts(cfg *Config) (ports []*Port, err error) {
	for i := range cfg.Queues {
		var p *Port
		p, err = newPort(cfg, g, uint32(i))
		if err != nil {
			g.closePorts(ports)
			return nil, fmt.Errorf("queue pair %d: %w", i, err)
		}
		ports = append(ports, p)
		p.shard.Join()
	}
	return ports, nil
}

// closePorts closes queue pairs, with all that they share.
func (g *guest) closePorts(ports []*Port) {
	for _, p := range ports {
		_ = p.Close()
	}
	if len(ports) == 0 {
		g.close()
	}
}
