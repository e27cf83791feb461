package netem

import (
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/capture"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	// batch is how many frames of the guest the Port behind the link gets in a turn.
	batch = 128
	// turnBytes is how much is copied in a turn, each way, before frames that are due have theirs.
	turnBytes = 256 << 10
	// retryPairs is when to look again, in nanoseconds, for room in a queue that frames of other queue pairs fill.
	retryPairs = int64(1e6)
	// turnFrames is how many frames the guest gets in a turn.
	turnFrames = 256

	// largeOffloads are those by which a frame stands for many, and undone all that leave something to the receiver. The Port behind a link is
	// told that the guest has none of them: it gives frames as a wire carries them. Its buffers are not merged.
	largeOffloads = vnet.FeatureGuestTSO4 | vnet.FeatureGuestTSO6 | vnet.FeatureGuestECN | vnet.FeatureGuestUFO | vnet.FeatureGuestUSO4 | vnet.FeatureGuestUSO6
	undone        = largeOffloads | vnet.FeatureGuestCSum | vnet.FeatureMrgRxBuf
)

// Port is a link in front of another Port, which it has the calls of the worker pass to. It implements netbackend.Port.
type Port struct {
	behind    netbackend.Port
	endpoint  bool // it keeps what it has for the guest, and looks at no checksum
	features  uint64
	headerLen int // in front of the guest's frames
	innerLen  int // in front of those that behind gets
	out, in   path
	inlet     *inlet
	counters  *Counters
	connected bool
	receives  bool
	leaving   bool
	gone      func()

	ready  [batch]int32 // frames of the guest that are due, in order
	nReady int
	chains [batch]virtqueue.Chain
	pieces [batch]guestmem.Iovec

	whole   capture.Frame // that is being taken apart
	scratch []byte        // of it
	header  [vnet.HeaderLen]byte
	cutter  *capture.Cutter
	now     int64
	to      *path
	segment func(data []byte, length int)
}

var _ netbackend.Port = (*Port)(nil)

// Config says where a link is.
type Config struct {
	Behind   netbackend.Port // stays the caller's: Close closes it, as any call of the worker is passed on
	Shared   *Shared         // of all queue pairs of the guest
	Counters *Counters       // to count in
	// Gone is called at the end of a turn in which the last frame has left a link that Leave has ended. It may be nil.
	Gone func()
}

// New returns a Port without a link: Set gives it one. It may be called on any goroutine, and so may Prepare; all else is for the worker's thread.
func New(cfg Config) (*Port, error) {
	p := &Port{behind: cfg.Behind, counters: cfg.Counters, gone: cfg.Gone, cutter: new(capture.Cutter), scratch: make([]byte, longest)}
	if e, is := cfg.Behind.(netbackend.Endpoint); is {
		p.endpoint = e.EndsConnections()
	}
	p.out = path{line: &cfg.Shared.out, counters: cfg.Counters.out()}
	p.in = path{line: &cfg.Shared.in, counters: cfg.Counters.in()}
	if p.endpoint {
		p.out.damages = shows
	}
	p.segment = p.enterSegment
	var err error
	p.inlet, err = newInlet()
	return p, err
}

// Prepared is a link with the memory that it needs.
type Prepared struct {
	link    Link
	stream  uint64
	out, in *store
}

// Prepare makes what Set takes. pair tells queue pairs apart. The link has been checked, and has a seed.
func Prepare(l Link, pair int) *Prepared {
	return &Prepared{link: l, stream: 2 * uint64(pair), out: newStore(l.Out.storeBytes()), in: newStore(l.In.storeBytes())}
}

// Set gives the link of l to the Port. What is under way stays on its way, and is there when it would have been. Set takes l over.
func (p *Port) Set(l *Prepared) {
	p.leaving = false
	p.out.set(&l.link.Out, seeded(l.link.Seed, l.stream), p.out.spare(l.out))
	p.in.set(&l.link.In, seeded(l.link.Seed, l.stream+1), p.in.spare(l.in))
}

// spare is a new store, if it is larger than that of the path.
func (p *path) spare(s *store) *store {
	if p.store == nil || len(s.memory) > len(p.store.memory) {
		return s
	}
	return nil
}

// Leave ends the link: what is under way is there when it would have been, what comes meanwhile follows it at once, and then the Port is not
// needed any more.
func (p *Port) Leave() {
	p.leaving = true
	p.out.set(&Direction{}, p.out.chance, nil)
	p.in.set(&Direction{}, p.in.chance, nil)
}

// Behind returns the Port behind the link.
func (p *Port) Behind() netbackend.Port { return p.behind }

// Offers implements netbackend.Port.
func (p *Port) Offers() uint64 { return p.behind.Offers() }

// Start implements netbackend.Port.
func (p *Port) Start(features uint64, w netbackend.Worker) error {
	p.features, p.headerLen = features, vnet.HeaderLength(features)
	p.innerLen = vnet.HeaderLength(features &^ undone)
	return p.behind.Start(features&^undone, w)
}

// RingsChanged implements netbackend.Port. What is under way to or from a driver that is gone is dropped: the next one knows nothing of it. A
// ring that stands still keeps what is under way.
func (p *Port) RingsChanged(s netbackend.RingState) {
	if !s.Connected || s.Reset || s.Receive && !p.receives && s.Restarted && p.connected {
		p.discard()
	}
	p.connected, p.receives = s.Connected, s.Receive
	p.inlet.attach(s.Receive)
	p.behind.RingsChanged(s)
}

// Adopt tells a Port that begins between two turns of the one behind it what that one knows.
func (p *Port) Adopt(features uint64, s netbackend.RingState, w netbackend.Worker) error {
	p.connected, p.receives = s.Connected, s.Receive
	p.inlet.attach(s.Receive)
	return p.Start(features, w)
}

// discard drops all that is under way.
func (p *Port) discard() {
	for i := range p.nReady {
		p.out.store.release(p.ready[i])
		p.counters.OutDiscarded++
	}
	p.nReady = 0
	p.out.discard()
	p.in.discard()
}

// Close implements netbackend.Port.
func (p *Port) Close() error {
	p.Release()
	return p.behind.Close()
}

// Release takes what is under way out of what the queue pairs share. The Port is not used any more.
func (p *Port) Release() {
	p.out.forget()
	p.in.forget()
}

// Turn implements netbackend.Port.
func (p *Port) Turn(now int64, tx []virtqueue.Chain, events []netbackend.Event, rx *netbackend.RXWriter) (done int, next int64) {
	p.now = now
	done = p.takeFromGuest(tx)
	p.collectReady()
	offered := p.offer()
	n := p.nReady
	handed, next := p.behind.Turn(now, p.chains[:n], events, &p.inlet.writer)
	p.handed(handed)
	took := p.takeFromBehind()
	starved := p.inlet.writer.Starved() && (took > 0 || offered == 0) // with room that it does not use, another turn changes nothing
	if handed == n {                                                  // else it waits for something of its own
		next = netbackend.Earlier(next, p.out.store.due())
	}
	if p.deliver(rx) {
		next = netbackend.Earlier(next, p.in.store.due())
	}
	if starved {
		next = netbackend.Earlier(next, p.whenRoom())
	}
	if done < len(tx) {
		next = netbackend.Earlier(next, now)
	}
	if p.leaving && p.isEmpty() {
		p.leaving = false
		p.Release()
		if p.gone != nil {
			p.gone()
		}
		next = netbackend.Earlier(next, now)
	}
	return done, next
}

// isEmpty reports whether nothing is under way.
func (p *Port) isEmpty() bool { return p.out.store.held+p.in.store.held == 0 }

// takeFromGuest puts frames of the guest on their way, and returns how many.
func (p *Port) takeFromGuest(tx []virtqueue.Chain) (done int) {
	p.to = &p.out
	for bytes := 0; done < len(tx) && bytes < turnBytes; done++ {
		c := &tx[done]
		bytes += int(c.Len)
		length := int(c.Len) - p.headerLen
		if length < vnet.EthernetHeaderLen || length > longest {
			p.counters.OutBad++
			continue
		}
		guestmem.CopyFrom(p.header[:p.headerLen], c.Iov, 0)
		p.whole.Header.Decode(p.header[:p.headerLen])
		frame := p.scratch[:length]
		guestmem.CopyFrom(frame, c.Iov, p.headerLen)
		if p.whole.Header.Check(length, p.features) != nil || !p.enterWhole(frame) {
			p.counters.OutBad++
		}
	}
	return done
}

// takeFromBehind puts frames to the guest on their way, and returns how many.
func (p *Port) takeFromBehind() (n int) {
	p.to = &p.in
	n = p.inlet.collect()
	for range n {
		h, frame := p.inlet.frame()
		p.whole.Header = h
		if len(frame) >= vnet.EthernetHeaderLen && !p.enterWhole(frame) {
			p.counters.InTooLong++
		}
		p.inlet.next()
	}
	return n
}

// enterWhole puts a frame on its way as a wire would carry it, with what its sender has left undone. It returns false for one that cannot be
// cut as its header says.
func (p *Port) enterWhole(frame []byte) bool {
	if p.whole.Header.Plain() {
		p.to.enter(p.now, frame)
		return true
	}
	p.whole.Data, p.whole.Length = frame, len(frame)
	if p.whole.Header.GSOType != vnet.GSONone {
		return p.cutter.Cut(&p.whole, p.segment)
	}
	p.whole.Complete()
	p.to.enter(p.now, frame)
	return true
}

// enterSegment puts a segment on its way.
func (p *Port) enterSegment(data []byte, _ int) { p.to.enter(p.now, data) }

// collectReady collects frames of the guest that are due. Those that are damaged end here if nobody else would find out.
func (p *Port) collectReady() {
	s := p.out.store
	for p.nReady < batch && len(s.heap) > 0 && s.due() <= p.now {
		i := s.pop()
		if s.frames[i].damage {
			p.counters.OutDamaged++
			s.release(i)
			continue
		}
		p.ready[p.nReady] = i
		p.nReady++
	}
	for k := range p.nReady {
		p.pieces[k] = s.piece(p.ready[k], p.innerLen)
		p.chains[k] = virtqueue.Chain{Iov: p.pieces[k : k+1 : k+1], Len: uint32(p.pieces[k].Len)}
	}
}

// handed forgets the first frames of the guest, which the Port behind is done with.
func (p *Port) handed(n int) {
	for _, i := range p.ready[:n] {
		p.out.store.release(i)
	}
	p.nReady = copy(p.ready[:], p.ready[n:p.nReady])
}

// offer lets the Port behind have room for frames to the guest, and returns for how many. One that keeps what it has gets as much as the queue
// has; from another one the queue drops what is too much, as that of a router does.
func (p *Port) offer() int {
	frames := inletBuffers
	if p.endpoint {
		frames = p.in.room(p.now, inletBuffers)
	}
	p.inlet.offer(frames)
	return p.inlet.room()
}

// whenRoom returns when the Port behind has room again, having used what it was offered: 0 if the guest has to take frames first.
func (p *Port) whenRoom() int64 {
	switch {
	case !p.endpoint || p.in.room(p.now, 1) > 0:
		return p.now
	case p.in.waiting.count > 0:
		return p.in.waiting.next()
	case p.in.pace.rate != 0:
		return p.now + retryPairs
	}
	return 0
}

// deliver gives the guest the frames that are due, and reports whether it had room for all.
func (p *Port) deliver(rx *netbackend.RXWriter) bool {
	s := p.in.store
	bytes := 0
	for n := 0; n < turnFrames && bytes < turnBytes && len(s.heap) > 0 && s.due() <= p.now; n++ {
		frame := s.bytes(s.first())
		if most := rx.Capacity(); most > 0 && len(frame) > most {
			p.counters.InTooLong++
		} else if !rx.Write(&vnet.Header{}, frame) {
			return false
		}
		bytes += len(frame)
		s.release(s.pop())
	}
	return true
}
