package nat

import (
	"log/slog"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/ipfrag"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/route"
	"github.com/vringnet/vring/netbackend/nat/stats"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	// headCopy is how much of a frame is copied before anything is decided by it: a virtio-net header, Ethernet, and
	// IPv4 and TCP with all the options they can have. IPv6 has fewer.
	headCopy = vnet.HeaderLen + netpkt.EtherLen + 60 + 60
	// slowCopy is the longest frame that a service of ours (ARP, DHCP, ICMP) looks at: the longest of all.
	slowCopy = vnet.HeaderLen + netpkt.EtherLen + 65535

	maxIovecs = 1024 // of one system call (UIO_MAXIOV)
)

// Port is the NAT engine of one queue pair. It implements netbackend.Port. It gives each part its turn, and hands each frame and event
// to the part that it is for; state that belongs to a part is in the part.
type Port struct {
	turn      turn
	shard     *shard // that of turn, for what is done between turns
	cfg       *Config
	guest     *guest // what all queue pairs share
	routes    route.Table
	policy    policy.Policy
	link      linkLayer
	icmp      icmpSender
	sources   sourceKeeper
	fragments fragmenter
	listeners listenerSet
	gates     gateKeeper
	tcp       tcpEngine
	udp       udpEngine
	ping      pingEngine
	names     nameRelay
	inbound   acceptor
	groups    groupReflector
	services  localServices

	adopted    *Policy // that of policy
	judgeNext  uint32  // the record that judgeSome goes on with, 0 if all are judged
	judgeEach  int64   // of a flow by that policy, in nanoseconds
	following  *forwardSet
	news       route.News
	reviewAt   int64 // flows are not judged again before
	reviewed   int64 // when they were judged again last, 0 for never
	goneUntil  int64 // when the guest is taken for dead, 0 for never
	departure  departure
	sleep      sleepWatch         // of the host
	reassembly ipfrag.Reassembler // of the guest's packets
	whole      virtqueue.Chain    // a datagram that was put together
	tendAt     int64              // when tendBeforeFrames has something to do, or earlier
	head       [headCopy]byte     // of the frame that is handled
	onExpired  func(i uint32)
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

// takesTSO tells whether the guest, by its address, takes frames of many TCP segments.
func (s *shard) takesTSO(guest *ipaddr.Addr) bool {
	if guest.Is4() {
		return s.takes(vnet.FeatureGuestTSO4)
	}
	return s.takes(vnet.FeatureGuestTSO6)
}

// takesUSO tells whether the guest, by its address, takes frames of many datagrams.
func (s *shard) takesUSO(guest *ipaddr.Addr) bool {
	if guest.Is4() {
		return s.takes(vnet.FeatureGuestUSO4)
	}
	return s.takes(vnet.FeatureGuestUSO6)
}

// takes tells whether the guest has acknowledged an offload, and finishes checksums, without which there is none.
func (s *shard) takes(offload uint64) bool { return s.guestCsum && s.features&offload != 0 }

// Start implements netbackend.Port.
func (p *Port) Start(features uint64, w netbackend.Worker) error {
	p.shard.features = features
	p.shard.guestCsum = features&vnet.FeatureGuestCSum != 0
	p.shard.headerLen = vnet.HeaderLength(features)
	p.inbound.prepareForwards()
	if p.shard.worker != nil {
		return nil
	}
	p.shard.worker = w
	if err := w.RegisterInput(p.news.FD(), token(tokenNews, 0, 0)); err != nil {
		return err
	}
	if err := p.shard.watchMail(); err != nil {
		return err
	}
	if !p.shard.listening {
		return nil
	}
	return p.listenToHost()
}

// listenToHost has the worker watch what comes from the host for the guest without having been asked.
func (p *Port) listenToHost() error {
	if err := p.inbound.registerListeners(); err != nil {
		return err
	}
	return p.groups.listenToGroups()
}

// RingsChanged implements netbackend.Port. With the front end gone, so is the guest, see lose.
func (p *Port) RingsChanged(s netbackend.RingState) {
	p.setMTU(s.MTU)
	if !s.Connected || s.Receive != p.shard.receiving && !p.shard.othersRun() {
		p.gates.closeGates() // first: a client that is reset, and calls again, is to be refused
	}
	switch {
	case p.shard.connected && !s.Connected:
		p.lose()
	case s.Connected && !s.Reset:
		p.shard.gone = nothingGone
	}
	p.driverReset(s.Connected && s.Reset)
	if s.Receive && !p.shard.receiving && s.Restarted {
		p.shard.flows.each(p.shard.me, p.tcp.probeAfterRestart)
	}
	p.shard.connected, p.shard.receiving = s.Connected, s.Receive
	p.shard.announceRunning()
}

// setMTU takes the guest's MTU in bytes as the front end has set it, 0 if it has not.
func (p *Port) setMTU(mtu int) {
	before := p.shard.mtu
	p.shard.mtu = p.cfg.MTU
	if mtu != 0 {
		p.shard.mtu = min(mtu, p.cfg.MTU)
	}
	if p.shard.mtu < before {
		p.shard.flows.each(p.shard.me, p.tcp.clampMSS)
	}
}

// Close implements netbackend.Port. An engine that no worker has started may be closed too.
func (p *Port) Close() error {
	p.names.forget()
	p.abandonAll(stats.EndClosed)
	p.closeMailbox()
	p.udp.closeMappings()
	last := p.shard.leave()
	p.groups.closeGroups(last)
	p.inbound.closeListeners()
	p.announce(followsAll)
	if last {
		p.guest.forwards.closeAll(&p.shard.pairs.memory)
	}
	p.closeNews()
	p.routes.Close()
	return nil
}

// Turn implements netbackend.Port. It takes all of the guest's frames, unless flows of one before it are left, see departure: what a
// socket refuses is not acknowledged, and the guest sends it again.
func (p *Port) Turn(now int64, tx []virtqueue.Chain, events []netbackend.Event, rx *netbackend.RXWriter) (done int, next int64) {
	t := &p.turn
	t.begin(now, rx)
	forwards := p.guest.forwards.current.Load() // before the mailbox is emptied, see forwards
	if !t.alone() {
		t.beginReading()
		defer t.endReading()
		p.receiveMail(t)
	}
	if after := p.guest.policy.Load(); after != p.adopted {
		p.adoptPolicy(after)
	}
	if p.judgeNext != 0 {
		p.judgeSome(t)
	}
	if forwards != p.following {
		p.followForwards(t, forwards)
	}
	for i := range events {
		p.event(t, events[i])
	}
	if p.news.Pending(now) {
		p.followRoutes(t)
	}
	if now >= p.tendAt {
		p.tendBeforeFrames(t)
	}
	departing := p.isDeparting()
	if departing {
		p.departSome()
	} else {
		done = p.frames(t, tx)
	}
	p.tcp.flushOutgoing(t)
	p.udp.sendQueued(t)
	if t.wheel.Advance(now, p.onExpired) {
		t.again = true
	}
	t.followHosts()
	p.names.tend(t)
	p.awaitReturn(t)
	p.tcp.watch(t)
	p.gates.runGateTimers(t)
	p.link.advertiseRouter(t)
	p.fragments.sendFragments(t)
	if departing || p.isDeparting() {
		return done, now // the last slice, too, is followed by a turn, for what has waited
	}
	p.inbound.acceptAll(t)
	p.serve(t)
	if t.again || t.hasWork() {
		return done, now
	}
	return done, p.nextTurn(t)
}

// tendBeforeFrames does what is seldom due, and is to be done before the guest's frames are looked at. Turn asks for all of it by
// one comparison.
func (p *Port) tendBeforeFrames(t *turn) {
	if t.now >= p.sleep.at {
		p.lookForSleep(t)
	}
	if p.reassembly.Due(t.now) { // what comes too late joins nothing
		t.counters.FragmentTimeouts += uint64(p.reassembly.Expire(t.now, func(k *ipfrag.Packet) { p.icmp.tellIncomplete(t, k) }))
	}
	if t.lookAtMemory() {
		p.udp.lookAtListeners(t)
	}
	if p.groups.isDue() {
		p.groups.receiveFromGroups(t)
	}
	p.tendAt = netbackend.Earlier(t.nextMemoryLook(), netbackend.Earlier(p.sleep.at, p.reassembly.Next()))
	if p.groups.isDue() {
		p.tendAt = t.now // the rest
	}
}

// nextTurn returns when there is something to do though nothing comes, 0 for never.
func (p *Port) nextTurn(t *turn) int64 {
	next := netbackend.Earlier(t.wheel.Next(), p.inbound.next())
	next = netbackend.Earlier(next, p.goneUntil)
	next = netbackend.Earlier(next, netbackend.Earlier(p.news.Next(), p.reviewDue()))
	next = netbackend.Earlier(next, p.names.next(t))
	next = netbackend.Earlier(next, p.link.advertiseAt())
	next = netbackend.Earlier(next, p.reassembly.Next())
	return netbackend.Earlier(next, netbackend.Earlier(p.tcp.nextWatch(), p.gates.gateAt()))
}

// frames handles the guest's frames, up to one for a flow that another queue pair still has, and returns how many.
func (p *Port) frames(t *turn, tx []virtqueue.Chain) int {
	for i := range tx {
		if p.frame(t, &tx[i]) {
			t.counters.FramesIn--
			return i
		}
	}
	return len(tx)
}

// Kinds of tokens: what an event is about stands in the highest byte, a generation below it, an index in the low half.
const (
	tokenFlow     = iota
	tokenListener // the port of a forward
	tokenMapping
	tokenMail // something is in the mailbox
	tokenNews // the host's addresses or routes have changed, or its networks have something for the guest
	tokenName // a resolver that was asked

	generationMask = flowtable.GenerationMask
)

func token(kind uint64, gen, index uint32) uint64 {
	return kind<<56 | uint64(gen)<<32 | uint64(index)
}

// event takes note of a socket's readiness. What follows from it is done when the flow is served.
func (p *Port) event(t *turn, e netbackend.Event) {
	index, gen := uint32(e.Token), uint32(e.Token>>32)&generationMask
	switch e.Token >> 56 {
	case tokenMail:
		return
	case tokenNews:
		if index == newsOfGroups {
			p.groups.wake()
			p.tendAt = t.now
			return
		}
		p.news.Wake()
		return
	case tokenName:
		p.names.event(t, gen, index)
		return
	case tokenListener:
		p.listeners.event(p.listeners.ofForward(index), e.Events&unix.EPOLLERR != 0)
		return
	case tokenMapping:
		p.listeners.event(p.listeners.ofMapping(index), e.Events&unix.EPOLLERR != 0)
		return
	}
	f := t.flows.byIndex(index, gen, t.me)
	if f == nil {
		t.counters.StaleEvents++
		return
	}
	if e.Events&unix.EPOLLIN != 0 {
		f.bits |= readable
	}
	if e.Events&unix.EPOLLOUT != 0 {
		f.bits |= writable
	}
	if e.Events&unix.EPOLLPRI != 0 {
		f.bits |= readable
		if f.key.Proto == netpkt.TCP {
			p.tcp.markArrived(f)
		}
	}
	if e.Events&unix.EPOLLRDHUP != 0 {
		f.bits |= hungUp | readable
	}
	if e.Events&unix.EPOLLERR != 0 {
		f.bits |= failed | readable | writable
	}
	if e.Events&unix.EPOLLHUP != 0 {
		f.bits |= readable // both directions have ended, which need not be an error
	}
	t.schedule(f)
}

// runList is a list of flows that have something to do, in the order in which they get their turn.
type runList struct {
	first, last uint32
	count       int
}

// push appends f, unless it stands in a list already.
func (l *runList) push(t *flowTable, f *flow) {
	if f.bits&onRunList != 0 {
		return
	}
	f.bits |= onRunList
	f.runNext = none
	if l.first == none {
		l.first = f.index
	} else {
		t.at(l.last).runNext = f.index
	}
	l.last = f.index
	l.count++
}

// pop takes the first flow out of the list.
func (l *runList) pop(t *flowTable) *flow {
	f := t.at(l.first)
	l.first = f.runNext
	l.count--
	f.bits &^= onRunList
	return f
}

// move appends all of other, and empties it.
func (l *runList) move(t *flowTable, other *runList) {
	if other.first == none {
		return
	}
	if l.first == none {
		l.first = other.first
	} else {
		t.at(l.last).runNext = other.first
	}
	l.last = other.last
	l.count += other.count
	*other = runList{}
}

// outcome is how the service of a flow ended.
type outcome uint8

const (
	idle    outcome = iota // nothing is left to do
	more                   // its share of this turn is used up
	starves                // the guest's receive ring had no room
)

// serve gives each flow on the run list its turn.
func (p *Port) serve(t *turn) {
	for n := t.flowsToServe(); n > 0; n-- {
		f := t.nextFlow()
		if f.isLeaving() {
			p.handOver(f)
			continue
		}
		switch p.service(t, f) {
		case more:
			t.schedule(f)
		case starves:
			t.block(f)
		}
	}
	t.endServing()
}

func (p *Port) service(t *turn, f *flow) outcome {
	if f.state == stateDead {
		t.retire(f)
		return idle
	}
	switch f.key.Proto {
	case netpkt.UDP:
		return p.udp.serviceUDP(t, f)
	case netpkt.ICMP:
		return p.ping.servicePing(t, f)
	}
	return p.tcp.serviceTCP(t, f)
}

// expire is called when a flow's deadline has passed.
func (p *Port) expire(t *turn, f *flow) {
	t.to = f.host
	switch f.key.Proto {
	case netpkt.UDP:
		t.counters.UDPExpired++
		t.remove(f)
	case netpkt.ICMP:
		t.remove(f)
	default:
		p.tcp.expireTCP(t, f)
	}
}

// remove ends a flow: its socket is closed, its key is free, and its record will be with the next turn.
func (s *shard) remove(f *flow) {
	s.hooks.closing(f)
	s.closeSocket(f)
	s.leaveClass(f)
	s.wheel.Remove(f.index)
	s.flows.unlink(f)
	s.schedule(f)
}

// closeSocket closes the socket of a flow, or does without the one that it shares.
func (s *shard) closeSocket(f *flow) {
	switch {
	case f.fd < 0:
	case f.bits&shared != 0:
	default:
		s.worker.Unregister(int(f.fd))
		_ = unix.Close(int(f.fd))
		s.flows.sockets.Add(-1)
		s.pairs.memory.forget(&f.memory)
	}
	f.fd = -1
}

// takeSocket takes the socket of its own from a flow that is to end.
func (s *shard) takeSocket(f *flow) (fd int) {
	fd = int(f.fd)
	s.worker.Unregister(fd)
	s.countSockets(-1)
	f.memory.release(f.fd, kindOf(f)) // its next flow looks anew
	s.pairs.memory.forget(&f.memory)
	f.fd = -1
	return fd
}

// replaceSocket gives a flow another socket, in the place of its own. The error is that the worker cannot watch it.
func (s *shard) replaceSocket(f *flow, fd int, set udpSender) error {
	s.worker.Unregister(int(f.fd))
	_ = unix.Close(int(f.fd))
	s.pairs.memory.forget(&f.memory)
	f.fd, f.sender = int32(fd), set
	s.flows.Renew(f.index) // no event of the old socket is one of this
	f.bits &^= readable | writable | hungUp | failed
	if err := s.register(f); err != nil {
		s.hit(limits.Host)
		return err
	}
	return nil
}

// abandonAll ends all flows of this queue pair.
func (p *Port) abandonAll(c stats.CloseReason) {
	p.shard.flows.each(p.shard.me, func(f *flow) { p.drop(f, c) })
}

// drop ends a flow whose guest is gone, or that has to go: the host's side learns it by a reset.
func (p *Port) drop(f *flow, c stats.CloseReason) {
	if f.key.Proto == netpkt.TCP {
		p.tcp.abandon(f, c)
		return
	}
	p.shard.remove(f)
}

// create makes a flow for key, which admit has made room for, with the host socket fd, which is the flow's from now on. If that
// cannot be done, it returns nil and refuses fd; it is elsewhere if another queue pair has made it in the meantime.
func (t *turn) create(key *flowtable.Key, fd int, state flowState, bits flowBits, c flowClass) (*flow, where) {
	return t.createWith(key, fd, state, bits, c, func(uint32) {})
}

// createWith is create for a flow of which others may read more than its key: prepare makes that for its index, before they can find
// it.
func (t *turn) createWith(key *flowtable.Key, fd int, state flowState, bits flowBits, c flowClass, prepare func(i uint32)) (*flow, where) {
	f, at := t.flows.insert(key, t.me, prepare)
	if f == nil {
		if at == nowhere {
			t.hit(limits.Flows)
		}
		refuseSocket(fd, bits)
		return nil, at
	}
	f.fd, f.state, f.bits, f.begun = int32(fd), state, bits, t.now
	t.setHost(f, c)
	t.joinClass(f, c)
	if bits&shared != 0 {
		return f, here
	}
	if err := t.register(f); err != nil {
		t.hit(limits.Host)
		refuseSocket(fd, bits)
		f.fd = -1
		t.remove(f)
		return nil, nowhere
	}
	t.flows.sockets.Add(1)
	if t.pairs.memory.pressed() {
		t.lookAtFlow(f) // it begins with small buffers
	}
	return f, here
}

// setHost finds the host of the guest that a new flow in c belongs to: the one whose frame begins it, or, where none does, the one
// that uses its address.
func (t *turn) setHost(f *flow, c flowClass) {
	if f.bits&inbound != 0 || c == classStrangers {
		f.host = t.hosts.User(&f.key.Guest)
		return
	}
	t.moved(f)
}

// register has the worker watch a flow's socket. Only a connection waits for room in its socket.
func (s *shard) register(f *flow) error {
	t := token(tokenFlow, s.flows.Generation(f.index), f.index)
	if f.key.Proto == netpkt.TCP {
		return s.worker.Register(int(f.fd), t)
	}
	return s.worker.RegisterInput(int(f.fd), t)
}

// warn tells the user of something rare.
func (s *shard) warn(message, key, value string) {
	s.worker.Raise(netbackend.Notice{Level: int(slog.LevelWarn), Message: message, Key: key, Value: value})
}

// Counters is what the engine counts.
type Counters = stats.Counters

// Ends counts connections that did not end by themselves, by cause.
type Ends = stats.Ends

// Counters returns what the engine has counted. The worker's thread may call it, or anybody after Close.
func (p *Port) Counters() Counters { return p.shard.counters }
