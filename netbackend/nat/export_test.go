package nat

import (
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/proof"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// KernelMemoryOf returns how many bytes of the kernel's memory count as those of p's guest. Any thread may call it.
func KernelMemoryOf(p *Port) int64 { return p.shard.Pairs.Memory.Bytes() }

// Hold has the connection of p's guest from a port tell its server, in one of the ways. It has sent nothing yet.
func Hold(p *Port, guestPort uint16, ways policy.Proof) (n int) {
	p.shard.Flows.ForEach(p.shard.Owner, func(f *shard.Flow) {
		if f.Key.Proto == netpkt.TCP && f.Key.GuestPort == guestPort {
			p.proof.Begin(f, ways)
			n++
		}
	})
	return n
}

// Prove lets connections of p's guest that have to tell their server go on if their name is allowed.
func Prove(p *Port, allow func(name string, by policy.Proof) bool) {
	p.proof.SetUp(p.shard, proof.Config{
		Guest: p.guest.proof, TCP: &p.tcp, Refused: p.refusedUnproven, Watch: p.tendBy,
		Allow: func(_ *shard.Turn, _ *shard.Flow, name string, by policy.Proof) bool { return allow(name, by) },
	})
}

// Held returns of how many connections bytes are kept, and of how many they may be.
func Held(p *Port) (n, most int) { return p.guest.proof.Held() }

// HeldByQUIC returns of how many associations something is kept, and of how many it may be.
func HeldByQUIC(p *Port) (n, most int) { return p.guest.quic.Held() }

// Mappings returns how many ports of p's guest have a port of the host.
func Mappings(p *Port) int { return p.guest.udp.CountMappings() }
