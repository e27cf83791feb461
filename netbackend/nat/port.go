package nat

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/bootserver"
	"github.com/vringnet/vring/netbackend/nat/internal/dhcp"
	"github.com/vringnet/vring/netbackend/nat/internal/fragments"
	"github.com/vringnet/vring/netbackend/nat/internal/gate"
	"github.com/vringnet/vring/netbackend/nat/internal/groups"
	"github.com/vringnet/vring/netbackend/nat/internal/icmperr"
	"github.com/vringnet/vring/netbackend/nat/internal/inbound"
	"github.com/vringnet/vring/netbackend/nat/internal/ipfrag"
	"github.com/vringnet/vring/netbackend/nat/internal/ledger"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/link"
	"github.com/vringnet/vring/netbackend/nat/internal/listeners"
	"github.com/vringnet/vring/netbackend/nat/internal/measure"
	"github.com/vringnet/vring/netbackend/nat/internal/nameserver"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/ping"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/presence"
	"github.com/vringnet/vring/netbackend/nat/internal/proof"
	"github.com/vringnet/vring/netbackend/nat/internal/quicproof"
	"github.com/vringnet/vring/netbackend/nat/internal/reports"
	"github.com/vringnet/vring/netbackend/nat/internal/review"
	"github.com/vringnet/vring/netbackend/nat/internal/route"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/source"
	"github.com/vringnet/vring/netbackend/nat/internal/stray"
	"github.com/vringnet/vring/netbackend/nat/internal/tcp"
	"github.com/vringnet/vring/netbackend/nat/internal/udp"
	"github.com/vringnet/vring/netbackend/nat/stats"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// Port is the NAT engine of one queue pair. It implements netbackend.Port. It gives each part its turn, and hands each frame and event
// to the part that it is for; state that belongs to a part is in the part.
type Port struct {
	turn      shard.Turn
	shard     *shard.Shard // that of turn, for what is done between turns
	cfg       *Config
	guest     *guest // what all queue pairs share
	routes    route.Table
	policy    policy.Policy
	link      link.Layer
	icmp      icmperr.Sender
	ledger    ledger.Keeper
	sources   source.Keeper
	fragments fragments.Sender
	listeners listeners.Set
	gates     gate.Keeper
	tcp       tcp.Engine
	udp       udp.Engine
	ping      ping.Engine
	names     nameserver.Relay
	proof     proof.Inspector
	quic      quicproof.Inspector
	inbound   inbound.Acceptor
	groups    groups.Reflector
	services  dhcp.Server
	measuring measure.Finder
	booting   bootserver.Finder
	review    review.Reviewer
	presence  presence.Keeper
	reports   reports.Reports
	strays    stray.Keeper
	assembly  fragments.Assembler

	tcpOff    bool    // the guest does not have TCP
	icmpOff   bool    // nor pings
	adopted   *Policy // that of policy
	news      route.News
	sleep     sleepWatch          // of the host
	tendAt    int64               // when tendBeforeFrames has something to do, or earlier
	namesTold limits.Told[string] // options that the user was told of, see tellUnlisted
	tendWake  int64               // when it is to be called though nothing comes, or earlier; 0 for never
	head      [shard.HeadLen]byte // of the frame that is handled
	onExpired func(i uint32)
}

// Offers implements netbackend.Port. Checksums of the guest are never looked at, for no wire can have damaged them,
// and its large segments go to a socket as they are.
func (p *Port) Offers() uint64 {
	offers := uint64(vnet.FeatureCSum | vnet.FeatureGuestCSum | vnet.FeatureHostECN | vnet.FeatureGuestECN |
		vnet.FeatureHostTSO4 | vnet.FeatureGuestTSO4 | vnet.FeatureHostTSO6 | vnet.FeatureGuestTSO6)
	if p.cfg.UDPSegment {
		offers |= vnet.FeatureHostUSO
	}
	if p.cfg.UDPGRO {
		offers |= vnet.FeatureGuestUSO4 | vnet.FeatureGuestUSO6
	}
	return offers
}

// EndsConnections implements netbackend.Endpoint.
func (p *Port) EndsConnections() bool { return true }

// Start implements netbackend.Port.
func (p *Port) Start(features uint64, w netbackend.Worker) error {
	p.shard.Features = features
	p.shard.GuestCsum = features&vnet.FeatureGuestCSum != 0
	p.shard.HeaderLen = vnet.HeaderLength(features)
	p.inbound.PrepareForwards()
	if p.shard.Worker != nil {
		return nil
	}
	p.shard.Worker = w
	if err := w.RegisterInput(p.news.FD(), shard.Token(shard.TokenNews, 0, 0)); err != nil {
		return err
	}
	if err := p.shard.WatchMail(); err != nil {
		return err
	}
	if !p.shard.Listening {
		return nil
	}
	return p.listenToHost()
}

// listenToHost has the worker watch what comes from the host for the guest without having been asked.
func (p *Port) listenToHost() error {
	if err := p.inbound.RegisterListeners(); err != nil {
		return err
	}
	return p.groups.Listen()
}

// RingsChanged implements netbackend.Port. With the front end gone, so is the guest, see package presence.
func (p *Port) RingsChanged(s netbackend.RingState) {
	p.setMTU(s.MTU)
	if !s.Connected || s.Receive != p.shard.Receiving && !p.shard.OthersRun() {
		p.gates.CloseGates() // first: a client that is reset, and calls again, is to be refused
	}
	switch {
	case p.shard.Connected && !s.Connected:
		p.presence.OnFrontendGone()
	case s.Connected && !s.Reset:
		p.shard.Gone = shard.NothingGone
	}
	p.presence.OnDriver(s.Connected && s.Reset)
	if s.Receive && !p.shard.Receiving && s.Restarted {
		p.shard.Flows.ForEach(p.shard.Owner, p.tcp.ProbeAfterRestart)
	}
	p.shard.Connected, p.shard.Receiving = s.Connected, s.Receive
	p.shard.AnnounceRunning()
}

// setMTU takes the guest's MTU in bytes as the front end has set it, 0 if it has not.
func (p *Port) setMTU(mtu int) {
	before := p.shard.MTU
	p.shard.MTU = p.cfg.MTU
	if mtu != 0 {
		p.shard.MTU = min(mtu, p.cfg.MTU)
	}
	if p.shard.MTU < before {
		p.shard.Flows.ForEach(p.shard.Owner, p.tcp.ClampMSS)
	}
}

// Close implements netbackend.Port. An engine that no worker has started may be closed too.
func (p *Port) Close() error {
	p.names.Forget()
	p.abandonAll(stats.EndClosed)
	p.shard.CloseAllLingering()
	p.closeMailbox()
	p.udp.CloseMappings()
	last := p.shard.Leave()
	p.groups.Close(last)
	p.inbound.CloseListeners()
	if last {
		p.guest.forwards.CloseAll(&p.shard.Pairs.Memory)
		p.guest.names.Close()
		p.guest.leave()
		p.guest.boot.Close()
	}
	p.closeNews()
	p.routes.Close()
	return nil
}

// Turn implements netbackend.Port. It takes all of the guest's frames, unless flows of one before it are left, see package presence: what a
// socket refuses is not acknowledged, and the guest sends it again.
func (p *Port) Turn(now int64, tx []virtqueue.Chain, events []netbackend.Event, rx *netbackend.RXWriter) (done int, next int64) {
	t := &p.turn
	t.Begin(now, rx)
	forwards := p.guest.forwards.Current.Load() // before the mailbox is emptied, see forwards
	if !t.Alone() {
		t.BeginReading()
		defer t.EndReading()
		p.receiveMail(t)
	}
	if after := p.guest.policy.Load(); after != p.adopted {
		p.adoptPolicy(after)
	}
	p.review.JudgeSome(t)
	p.inbound.Follow(t, forwards)
	for i := range events {
		p.event(t, events[i])
	}
	if p.news.Pending(now) {
		p.followRoutes(t)
	}
	if now >= p.tendAt {
		p.tendBeforeFrames(t)
	}
	departing := p.presence.IsDeparting()
	if departing {
		p.presence.DepartSome()
	} else {
		t.Handle(tx)
		done = p.frames(t, tx)
		t.Handled()
	}
	p.tcp.FlushOutgoing(t)
	p.udp.SendQueued(t)
	if t.Wheel.Advance(now, p.onExpired) {
		t.Again = true
	}
	t.FollowHosts()
	p.names.Tend(t)
	p.presence.CheckGrace(t)
	p.tcp.Keepalive(t)
	p.gates.RunGateTimers(t)
	p.link.AdvertiseRouter(t)
	p.fragments.SendRest(t)
	if departing || p.presence.IsDeparting() {
		return done, now // the last slice, too, is followed by a turn, for what has waited
	}
	p.inbound.AcceptAll(t)
	p.serve(t)
	if t.Again || t.HasWork() {
		return done, now
	}
	return done, p.nextTurn(t)
}

// tendBeforeFrames does what is seldom due, and is to be done before the guest's frames are looked at. Turn asks for all of it by
// one comparison.
func (p *Port) tendBeforeFrames(t *shard.Turn) {
	if t.Now >= p.sleep.at {
		p.lookForSleep(t)
	}
	p.assembly.Expire(t, func(k *ipfrag.Packet) { p.icmp.SendIncomplete(t, k) })
	if t.LookAtMemory() {
		p.udp.LookAtSharedSockets(t)
	}
	if p.groups.IsDue() {
		p.groups.Receive(t)
	}
	p.proof.Tend(t)
	p.quic.Tend(t)
	p.tendWake = netbackend.Earlier(p.assembly.Next(), netbackend.Earlier(p.proof.Next(), p.quic.Next()))
	p.tendAt = netbackend.Earlier(t.NextMemoryLook(), netbackend.Earlier(p.sleep.at, p.tendWake))
	if p.groups.IsDue() {
		p.tendAt = t.Now // the rest
	}
}

// nextTurn returns when there is something to do though nothing comes, 0 for never.
func (p *Port) nextTurn(t *shard.Turn) int64 {
	next := netbackend.Earlier(t.Wheel.Next(), p.inbound.Next())
	next = netbackend.Earlier(next, p.presence.Next())
	next = netbackend.Earlier(next, netbackend.Earlier(p.news.Next(), p.review.Due()))
	next = netbackend.Earlier(next, p.names.Next(t))
	next = netbackend.Earlier(next, p.link.AdvertiseAt())
	next = netbackend.Earlier(next, p.tendWake)
	return netbackend.Earlier(next, netbackend.Earlier(p.tcp.NextKeepalive(), p.gates.Next()))
}

// frames handles the guest's frames, up to one for a flow that another queue pair still has, and returns how many.
func (p *Port) frames(t *shard.Turn, tx []virtqueue.Chain) int {
	for i := range tx {
		if p.frame(t, &tx[i]) {
			t.Counters.FramesIn--
			return i
		}
	}
	return len(tx)
}

// event takes note of a socket's readiness. What follows from it is done when the flow is served.
func (p *Port) event(t *shard.Turn, e netbackend.Event) {
	index, gen := uint32(e.Token), uint32(e.Token>>32)&shard.GenerationMask
	switch e.Token >> 56 {
	case shard.TokenMail:
		return
	case shard.TokenNews:
		if index == groups.NewsIndex {
			p.groups.Wake()
			p.tendAt = t.Now
			return
		}
		p.news.Wake()
		return
	case shard.TokenName:
		p.names.OnEvent(t, gen, index)
		return
	case shard.TokenLingering:
		t.LingeringEvent(index)
		return
	case shard.TokenListener:
		p.listeners.OnEvent(p.listeners.OfForward(index), e.Events&unix.EPOLLERR != 0)
		return
	case shard.TokenMapping:
		p.listeners.OnEvent(p.listeners.OfMapping(index), e.Events&unix.EPOLLERR != 0)
		return
	}
	f := t.Flows.ByIndex(index, gen, t.Owner)
	if f == nil {
		t.Counters.StaleEvents++
		return
	}
	if e.Events&unix.EPOLLIN != 0 {
		f.Bits |= shard.Readable
	}
	if e.Events&unix.EPOLLOUT != 0 {
		f.Bits |= shard.Writable
	}
	if e.Events&unix.EPOLLPRI != 0 {
		f.Bits |= shard.Readable
		if f.Key.Proto == netpkt.TCP {
			p.tcp.OnUrgent(f)
		}
	}
	if e.Events&unix.EPOLLRDHUP != 0 {
		f.Bits |= shard.PeerClosed | shard.Readable
	}
	if e.Events&unix.EPOLLERR != 0 {
		f.Bits |= shard.SockError | shard.Readable | shard.Writable
	}
	if e.Events&unix.EPOLLHUP != 0 {
		f.Bits |= shard.Readable // both directions have ended, which need not be an error
	}
	t.Schedule(f)
}

// serve gives each flow on the run list its turn.
func (p *Port) serve(t *shard.Turn) {
	for n := t.FlowsToServe(); n > 0; n-- {
		f := t.NextFlow()
		if f.IsLeaving() {
			p.handOver(f)
			continue
		}
		switch p.service(t, f) {
		case shard.Again:
			t.Schedule(f)
		case shard.NoBuffers:
			t.Block(f)
		}
	}
	t.EndServing()
}

func (p *Port) service(t *shard.Turn, f *shard.Flow) shard.Outcome {
	if f.State == shard.StateDead {
		t.Retire(f)
		return shard.Idle
	}
	switch f.Key.Proto {
	case netpkt.UDP:
		return p.udp.Serve(t, f)
	case netpkt.ICMP:
		return p.ping.Serve(t, f)
	}
	return p.tcp.Serve(t, f)
}

// expire is called when a flow's deadline has passed.
func (p *Port) expire(t *shard.Turn, f *shard.Flow) {
	t.To = f.Host
	switch f.Key.Proto {
	case netpkt.UDP:
		t.Counters.UDPExpired++
		t.Remove(f)
	case netpkt.ICMP:
		t.Remove(f)
	default:
		p.tcp.Expire(t, f)
	}
}

// abandonAll ends all flows of this queue pair.
func (p *Port) abandonAll(c stats.CloseReason) {
	p.shard.Flows.ForEach(p.shard.Owner, func(f *shard.Flow) { p.drop(f, c) })
}

// drop ends a flow whose guest is gone, or that has to go: the host's side learns it by a reset.
func (p *Port) drop(f *shard.Flow, c stats.CloseReason) {
	if f.Key.Proto == netpkt.TCP {
		p.tcp.Drop(f, c)
		return
	}
	p.shard.Remove(f)
}

// Counters is what the engine counts.
type Counters = stats.Counters

// Ends counts connections that did not end by themselves, by cause.
type Ends = stats.Ends

// Counters returns what the engine has counted. The worker's thread may call it, or anybody after Close.
func (p *Port) Counters() Counters { return p.shard.Counters }
