package nat

import (
	"log/slog"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/ipfrag"
	"github.com/vringnet/vring/netbackend/nat/internal/route"
	"github.com/vringnet/vring/netbackend/nat/proxyproto"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	// headCopy is how much of a frame is copied before anything is decided by it: a virtio-net header, Ethernet, and
	// IPv4 and TCP with all the options they can have. IPv6 has fewer.
	headCopy = vnet.HeaderLen + etherLen + 60 + 60
	// slowCopy is the longest frame that a service of ours (ARP, DHCP, ICMP) looks at: the longest of all.
	slowCopy = vnet.HeaderLen + etherLen + 65535

	maxIovecs = 1024 // of one system call (UIO_MAXIOV)
)

// Port is the NAT engine of one queue pair. It implements netbackend.Port.
type Port struct {
	id        uint32 // of the queue pair
	me        uint32 // its name as an owner of flows
	pairs     *pairs
	post      postbox
	turns     atomic.Uint64 // odd during a turn
	retired   retirement
	arrived   []uint32 // scratch of readPost
	nForwards int
	listening bool // the forwards' listeners are in this Port's epoll set

	cfg      Config
	worker   netbackend.Worker
	services services
	policy   policy
	flows    *flowTable
	wheel    wheel
	run      runList
	starved  runList // flows that wait for receive buffers of the guest
	listen   []listener
	called   []uint32 // listeners that are ready, in the order in which they get their turn
	vacant   []uint32 // free records of listen
	crowds   [crowds]flowList
	news     route.News
	reviewAt int64 // flows are not judged again before
	reviewed int64 // when they were judged again last, 0 for never
	names    nameQueries
	tellAt   [limits]int64 // when the user may be told of a limit again
	counters Counters

	headerLen    int  // of the virtio-net header, as negotiated
	guestCsum    bool // the guest finishes checksums (VIRTIO_NET_F_GUEST_CSUM)
	features     uint64
	connected    bool
	receiving    bool // the guest's receive ring runs
	mtu          int
	hosts        *hosts               // of all queue pairs
	found        uint32               // of hosts.news, when waiting connections were looked at last
	followed     uint32               // of hosts.moves, when followHosts looked last
	followAt     int64                // it does not look again before
	user         userCache            // of the address that datagrams went to last by a forward
	nets         *networks            // the policy's
	others       map[ipaddr.Addr]bool // addresses of other guests, which this one must not use
	identity     isnSource
	long         longDatagram
	packetID     uint16               // of the last packet to the guest that may be cut on its way
	unixPort     uint16               // of the last client of a unix socket, counted from firstAnyPort
	acceptAt     int64                // no connection is accepted before, 0 if they may be now
	unansweredAt map[ipaddr.Addr]bool // of the guest, that the user was told of; see tellUnanswered
	watches      watchTimes
	memory       memoryLook
	gone         absence    // of the front end or the driver, which may come back
	goneUntil    int64      // when the guest is taken for dead, 0 for never
	reset        bool       // the driver has reset its device, and none has begun since
	streamsAt    int64      // when tendStreams looks again, 0 for never
	sleep        sleepWatch // of the host

	reassembly ipfrag.Reassembler // of the guest's packets
	tendAt     int64              // when tendBeforeFrames has something to do, or earlier

	// The rest is valid, or of use, during one turn.
	now       int64
	from, to  hostID // whose frame is handled, and to whom goes what is made
	rx        *netbackend.RXWriter
	rxFull    bool // the guest's receive ring had no room for something
	again     bool // work is left over though nothing is awaited
	out       outgoing
	whole     virtqueue.Chain // a datagram that was put together
	msg       hostsock.Message
	outbox    outbox
	letters   [hostsock.BatchSize]letter
	inbox     inbox
	batch     hostsock.Batch
	quote     [quoteLen]byte
	quoted    [udpLen]byte
	mem       hostsock.MemInfo
	head      [headCopy]byte
	slow      []byte
	template  [headCopy]byte
	pieces    [maxIovecs]guestmem.Iovec
	swallow   []byte
	lead      [proxyproto.MaxWritten]byte
	onExpired func(*flow)
	groups    groupNews
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
func (p *Port) takesTSO(guest *ipaddr.Addr) bool {
	if guest.Is4() {
		return p.takes(vnet.FeatureGuestTSO4)
	}
	return p.takes(vnet.FeatureGuestTSO6)
}

// takesUSO tells whether the guest, by its address, takes frames of many datagrams.
func (p *Port) takesUSO(guest *ipaddr.Addr) bool {
	if guest.Is4() {
		return p.takes(vnet.FeatureGuestUSO4)
	}
	return p.takes(vnet.FeatureGuestUSO6)
}

// takes tells whether the guest has acknowledged an offload, and finishes checksums, without which there is none.
func (p *Port) takes(offload uint64) bool { return p.guestCsum && p.features&offload != 0 }

// Start implements netbackend.Port.
func (p *Port) Start(features uint64, w netbackend.Worker) error {
	p.features = features
	p.guestCsum = features&vnet.FeatureGuestCSum != 0
	p.headerLen = vnet.HeaderLength(features)
	p.prepareForwards()
	if p.worker != nil {
		return nil
	}
	p.worker = w
	if err := w.RegisterInput(p.news.FD(), token(tokenNews, 0, 0)); err != nil {
		return err
	}
	if !p.alone() {
		if err := w.RegisterInput(p.post.fd, token(tokenPost, 0, 0)); err != nil {
			return err
		}
	}
	if !p.listening {
		return nil
	}
	return p.registerListeners()
}

// RingsChanged implements netbackend.Port. With the front end gone, so is the guest, see lose.
func (p *Port) RingsChanged(s netbackend.RingState) {
	p.setMTU(s.MTU)
	if !s.Connected || s.Receive != p.receiving && !p.othersRun() {
		p.shutGates() // first: a client that is reset, and calls again, is to be refused
	}
	switch {
	case p.connected && !s.Connected:
		p.lose()
	case s.Connected && !s.Reset:
		p.gone = nothingGone
	}
	p.driverReset(s.Connected && s.Reset)
	if s.Receive && !p.receiving && s.Restarted {
		p.flows.each(p.me, p.probeAfterRestart)
	}
	p.connected, p.receiving = s.Connected, s.Receive
	if !p.alone() {
		p.ringsChanged()
	}
}

// setMTU takes the guest's MTU in bytes as the front end has set it, 0 if it has not.
func (p *Port) setMTU(mtu int) {
	before := p.mtu
	p.mtu = p.cfg.MTU
	if mtu != 0 {
		p.mtu = min(mtu, p.cfg.MTU)
	}
	if p.mtu < before {
		p.flows.each(p.me, p.clampMSS)
	}
}

// probeAfterRestart asks a guest whose driver is new whether it still knows a connection. A guest that was rebooted
// answers by a reset, and the host's side need not wait for nothing. Where data is under way, its repetition asks.
func (p *Port) probeAfterRestart(f *flow) {
	if f.state == stateOpen && f.tcp.sndUna == f.tcp.sndMax {
		p.askAbout(f)
	}
}

// Close implements netbackend.Port. An engine that no worker has started may be closed too.
func (p *Port) Close() error {
	p.forgetNames()
	p.abandonAll(endClosed)
	p.closePost()
	p.closeMappings()
	p.closeListeners()
	p.closeNews()
	p.policy.close()
	return nil
}

// Turn implements netbackend.Port. It takes all of the guest's frames always: what a socket refuses is not
// acknowledged, and the guest sends it again.
func (p *Port) Turn(now int64, tx []virtqueue.Chain, events []netbackend.Event, rx *netbackend.RXWriter) (done int, next int64) {
	p.now, p.rx, p.rxFull, p.again = now, rx, false, false
	if !p.alone() {
		p.beginTurn()
		defer p.endTurn()
		p.recycle()
		p.readPost()
	}
	for i := range events {
		p.event(events[i])
	}
	if p.news.Pending(now) {
		p.followRoutes()
	}
	if now >= p.tendAt {
		p.tendBeforeFrames()
	}
	done = p.frames(tx)
	p.flushOutgoing()
	p.sendQueued()
	if p.wheel.advance(now, p.onExpired) {
		p.again = true
	}
	p.followHosts()
	p.tendNames()
	p.tendStreams()
	p.awaitReturn()
	p.watch()
	p.tendGates()
	p.advertiseRouter()
	p.sendFragments()
	p.acceptAll()
	p.serve()
	if p.again || p.run.count > 0 {
		return done, now
	}
	return done, p.nextTurn()
}

// tendBeforeFrames does what is seldom due, and is to be done before the guest's frames are looked at. Turn asks for all of it by
// one comparison.
func (p *Port) tendBeforeFrames() {
	if p.now >= p.sleep.at {
		p.lookForSleep()
	}
	if p.reassembly.Due(p.now) { // what comes too late joins nothing
		p.counters.FragmentTimeouts += uint64(p.reassembly.Expire(p.now, p.tellIncomplete))
	}
	p.lookAtMemory()
	if p.groups.due {
		p.receiveFromGroups()
	}
	p.tendAt = netbackend.Earlier(p.memory.at, netbackend.Earlier(p.sleep.at, p.reassembly.Next()))
	if p.groups.due {
		p.tendAt = p.now // the rest
	}
}

// nextTurn returns when there is something to do though nothing comes, 0 for never.
func (p *Port) nextTurn() int64 {
	next := netbackend.Earlier(p.wheel.next(), p.acceptAt)
	next = netbackend.Earlier(next, p.goneUntil)
	next = netbackend.Earlier(next, netbackend.Earlier(p.news.Next(), p.reviewDue()))
	next = netbackend.Earlier(next, netbackend.Earlier(p.names.wakeAt, p.streamsNext()))
	next = netbackend.Earlier(next, p.advertiseAt())
	next = netbackend.Earlier(next, p.reassembly.Next())
	return netbackend.Earlier(next, netbackend.Earlier(p.watches.next(), p.gateAt()))
}

// frames handles the guest's frames, up to one for a flow that another queue pair still has, and returns how many.
func (p *Port) frames(tx []virtqueue.Chain) int {
	for i := range tx {
		if p.frame(&tx[i]) {
			p.counters.FramesIn--
			return i
		}
	}
	return len(tx)
}

// Kinds of tokens: what an event is about stands in the highest byte, a generation below it, an index in the low half.
const (
	tokenFlow = iota
	tokenListener
	tokenPost // something is in the postbox
	tokenNews // the host's addresses or routes have changed, or its networks have something for the guest
	tokenName // a resolver that was asked

	generationMask = 1<<24 - 1
)

func token(kind uint64, gen, index uint32) uint64 {
	return kind<<56 | uint64(gen)<<32 | uint64(index)
}

// event takes note of a socket's readiness. What follows from it is done when the flow is served.
func (p *Port) event(e netbackend.Event) {
	index, gen := uint32(e.Token), uint32(e.Token>>32)&generationMask
	switch e.Token >> 56 {
	case tokenPost:
		return
	case tokenNews:
		if index == newsOfGroups {
			p.groups.due, p.tendAt = true, p.now
			return
		}
		p.news.Wake()
		return
	case tokenName:
		p.nameEvent(gen, index)
		return
	case tokenListener:
		l := &p.listen[index]
		l.failed = l.failed || e.Events&unix.EPOLLERR != 0
		p.call(index)
		return
	}
	f := p.flows.byIndex(index, gen, p.me)
	if f == nil {
		p.counters.StaleEvents++
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
		f.tcp.urgency |= hostUrgent
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
	p.run.push(p.flows, f)
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
func (p *Port) serve() {
	if p.starved.count > 0 && p.rx.Available() {
		p.run.move(p.flows, &p.starved)
	}
	for n := p.run.count; n > 0; n-- {
		f := p.run.pop(p.flows)
		p.to = f.host
		if f.bits&leaving != 0 && f.state != stateDead {
			p.handOver(f)
			continue
		}
		switch p.service(f) {
		case more:
			p.run.push(p.flows, f)
		case starves:
			p.starved.push(p.flows, f)
		}
	}
	if p.starved.count > 0 {
		p.rx.Starve()
	}
}

func (p *Port) service(f *flow) outcome {
	switch f.state {
	case stateDead:
		p.retire(f)
		return idle
	case stateUDP:
		return p.serviceUDP(f)
	case statePing:
		return p.servicePing(f)
	default:
		return p.serviceTCP(f)
	}
}

// expire is called when a flow's deadline has passed.
func (p *Port) expire(f *flow) {
	p.to = f.host
	switch f.state {
	case stateUDP:
		p.counters.UDPExpired++
		p.remove(f)
	case statePing:
		p.remove(f)
	default:
		p.expireTCP(f)
	}
}

// remove ends a flow: its socket is closed, its key is free, and its record will be with the next turn.
func (p *Port) remove(f *flow) {
	if f.udp.first != 0 {
		p.sendQueued() // it was alive when they came
	}
	p.endStream(f)
	p.closeSocket(f)
	p.leave(f)
	p.wheel.remove(f)
	p.flows.unlink(f)
	p.run.push(p.flows, f)
}

// closeSocket closes the socket of a flow, or does without the one that it shares.
func (p *Port) closeSocket(f *flow) {
	switch {
	case f.fd < 0:
	case f.bits&shared != 0:
		if f.udp.via == viaMapping {
			p.quitMapping(f.key.guestSide(), &f.udp.peer.Addr)
		}
	default:
		p.worker.Unregister(int(f.fd))
		_ = unix.Close(int(f.fd))
		p.flows.sockets.Add(-1)
		p.pairs.memory.forget(p.flows.memory(f.index))
	}
	f.fd = -1
}

// abandon ends a flow whose guest is gone: the host's side learns it by a reset.
func (p *Port) abandon(f *flow, c endCause) {
	p.end(f, c)
	if f.key.proto == protoTCP {
		p.resetHost(f)
	}
	p.remove(f)
}

// abandonAll ends all flows of this queue pair.
func (p *Port) abandonAll(c endCause) {
	p.flows.each(p.me, func(f *flow) { p.abandon(f, c) })
}

// create makes a flow for key, which admit has made room for, with the host socket fd, which is the flow's from now on. If that
// cannot be done, it returns nil and closes fd; it is elsewhere if another queue pair has made it in the meantime.
func (p *Port) create(key *flowKey, fd int, state flowState, bits flowBits, c crowd) (*flow, where) {
	return p.createWith(key, fd, state, bits, c, udpFlow{})
}

// createWith is create for a flow that shares its socket: what others may read of udp is to be there from the beginning.
func (p *Port) createWith(key *flowKey, fd int, state flowState, bits flowBits, c crowd, udp udpFlow) (*flow, where) {
	f, at := p.flows.insert(key, p.me, udp)
	if f == nil {
		if at == nowhere {
			p.hit(limitFlows)
		}
		if bits&shared == 0 {
			resetSocket(fd)
		}
		return nil, at
	}
	f.fd, f.state, f.bits, f.begun = int32(fd), state, bits, p.now
	p.setHost(f, c)
	p.join(f, c)
	if bits&shared != 0 {
		return f, here
	}
	if err := p.register(f); err != nil {
		p.hit(limitHost)
		_ = unix.Close(fd)
		f.fd = -1
		p.remove(f)
		return nil, nowhere
	}
	p.flows.sockets.Add(1)
	if p.pairs.memory.pressed() {
		p.lookAtFlow(f) // it begins with small buffers
	}
	return f, here
}

// setHost finds the host of the guest that a new flow in c belongs to: the one whose frame begins it, or, where none does, the one
// that uses its address.
func (p *Port) setHost(f *flow, c crowd) {
	if f.bits&inbound != 0 || c == crowdStrangers {
		f.host = p.hosts.user(&f.key.guest)
		return
	}
	p.moved(f)
}

// register has the worker watch a flow's socket. Only a connection waits for room in its socket.
func (p *Port) register(f *flow) error {
	t := token(tokenFlow, f.gen, f.index)
	if f.key.proto == protoTCP {
		return p.worker.Register(int(f.fd), t)
	}
	return p.worker.RegisterInput(int(f.fd), t)
}

// warn tells the user of something rare.
func (p *Port) warn(message, key, value string) {
	p.worker.Raise(netbackend.Notice{Level: int(slog.LevelWarn), Message: message, Key: key, Value: value})
}

// Counters returns what the engine has counted. The worker's thread may call it, or anybody after Close.
func (p *Port) Counters() Counters { return p.counters }
