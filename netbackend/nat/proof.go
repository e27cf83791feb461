package nat

import (
	"errors"
	"fmt"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/audit"
	"github.com/vringnet/vring/netbackend/nat/internal/ledger"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/proof"
	"github.com/vringnet/vring/netbackend/nat/internal/quicproof"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/tcp"
)

// setUpProof prepares what holds connections until they have told their server.
func (p *Port) setUpProof(g *guest) {
	p.proof.SetUp(p.shard, proof.Config{Guest: g.proof, TCP: &p.tcp, Allow: p.allowsNamed, Refused: p.refusedUnproven, Watch: p.tendBy})
	p.quic.SetUp(p.shard, quicproof.Config{Guest: g.quic, UDP: &p.udp, Allow: p.allowsByQUIC, Refused: p.refusedQUIC, Watch: p.tendBy})
}

// errOtherName tells that QUIC connections of one association name different servers. One of them is that by which the association was
// opened, which a new policy judges again.
var errOtherName = errors.New("another connection of its association has named another server")

// allowsByQUIC judges an association whose datagrams name a server. Connections may follow each other on one.
func (p *Port) allowsByQUIC(t *shard.Turn, f *shard.Flow, name string, by policy.Proof) bool {
	if opened := p.policy.OpenedBy(f.Index); opened != "" && opened != name {
		p.refusedUnproven(t, f, name, errOtherName)
		return false
	}
	return p.allowsNamed(t, f, name, by)
}

// refusedQUIC takes note of datagrams that cannot be relied on.
func (p *Port) refusedQUIC(t *shard.Turn, f *shard.Flow, why error) { p.refusedUnproven(t, f, "", why) }

// allowsNamed judges a connection whose first bytes name a server.
func (p *Port) allowsNamed(t *shard.Turn, f *shard.Flow, name string, by policy.Proof) bool {
	d := p.policy.JudgeNamed(policy.DestinationOf(&f.Key), name, by)
	j := ledger.Judged(&d)
	j.Name = name
	if d.Verdict == policy.Allowed {
		p.policy.Opened(f.Index, name)
		p.ledger.Named(f, name)
		if p.policy.Learns() {
			p.ledger.Learned(f, name)
		}
		return true
	}
	why := "it names no server"
	if name != "" {
		why = "it names the server " + name
	}
	told := policy.Told{Name: name, By: by, Looked: true}
	p.reportUnproven(t, f, j, why, told)
	if d.Verdict == policy.IsUnlisted {
		p.tellUnlisted(f, told)
	}
	return false
}

// refusedUnproven takes note of a connection whose first bytes cannot be relied on, and reports whether it goes on.
func (p *Port) refusedUnproven(t *shard.Turn, f *shard.Flow, name string, why error) (goesOn bool) {
	if p.policy.Learns() {
		p.ledger.Learned(f, "")
		return true
	}
	j := ledger.Judgement{Verdict: "unproved", Rule: audit.NoRule, Name: name, Detail: why.Error()}
	p.reportUnproven(t, f, j, why.Error(), policy.Told{Looked: true})
	return false
}

// reportUnproven counts a connection that is refused by its first bytes, and enters it into the ledger.
func (p *Port) reportUnproven(t *shard.Turn, f *shard.Flow, j ledger.Judgement, why string, told policy.Told) {
	counter := &t.Counters.Denied
	*counter++
	p.ledger.Refused(&f.Key, j)
	t.KeepDrop(counter, &f.Key, false, func() string {
		text := "a connection that must tell its server: " + why
		if rule := p.ruleText(j.Rule); rule != "" {
			text += "; " + rule
		}
		if opener := p.openingTold(&f.Key, told); opener != "" {
			text += "; opened by " + opener
		}
		return text
	})
}

// tellUnlisted tells the user once of a server that no rule allows.
func (p *Port) tellUnlisted(f *shard.Flow, told policy.Told) {
	opener := p.openingTold(&f.Key, told)
	if opener == "" || !p.namesTold.IsNew(opener) {
		return
	}
	form := "the guest was denied a server that it did not name, which %s opens"
	if told.Name != "" {
		form = "the guest was denied a server by its name, which %s opens, once the guest has asked for the name"
	}
	p.shard.Warn(fmt.Sprintf(form, opener), "destination", f.Key.RemoteAddrPort().String())
}

// tendBy has tendBeforeFrames called at a time, or in the next turn for 0.
func (p *Port) tendBy(at int64) {
	p.tendAt = min(p.tendAt, at)
	p.tendWake = netbackend.Earlier(p.tendWake, at)
}

// inspectorHooks returns what TCP asks about connections that are looked at.
func (p *Port) inspectorHooks() tcp.InspectorHooks {
	return tcp.InspectorHooks{
		Hold: p.proof.Begin, Deliver: p.proof.Deliver, OnWritable: p.proof.OnWritable, OnAnswer: p.proof.OnAnswer,
	}
}
