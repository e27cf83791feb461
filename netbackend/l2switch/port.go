package l2switch

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/capture"
	"github.com/vringnet/vring/netbackend/fdb"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	// transmitOffloads are the features by which the guest leaves work to us, and receiveOffloads those by which we may
	// leave the same work to another guest.
	transmitOffloads = vnet.FeatureCSum |
		vnet.FeatureHostTSO4 | vnet.FeatureHostTSO6 | vnet.FeatureHostECN | vnet.FeatureHostUSO
	largeOffloads   = vnet.FeatureGuestTSO4 | vnet.FeatureGuestTSO6 | vnet.FeatureGuestECN | vnet.FeatureGuestUSO4 | vnet.FeatureGuestUSO6
	receiveOffloads = vnet.FeatureGuestCSum | largeOffloads
)

// Counters are plain numbers of the worker's thread, since the Port was made. Frames and bytes are counted without
// virtio-net headers. Of what a guest sends, each frame is in Sent or in one counter of drops.
type Counters struct {
	Sent          uint64 `counter:"sent" help:"Frames of the guest that the switch took."`
	SentBytes     uint64 `counter:"sent_bytes" unit:"bytes" help:"Bytes of frames that the switch took, without virtio-net headers."`
	Received      uint64 `counter:"received" help:"Frames that the guest got."`
	ReceivedBytes uint64 `counter:"received_bytes" unit:"bytes" help:"Bytes of frames that the guest got, without virtio-net headers."`
	Flooded       uint64 `counter:"flooded" help:"Frames of the guest that went to all ports: to groups, and to addresses that are not known."`

	BadHeaders  uint64 `counter:"bad_headers" kind:"drop" help:"Malformed chains of the guest, and its frames with a virtio-net or Ethernet header that lies."`
	BadSource   uint64 `counter:"bad_source" kind:"drop" help:"Frames of the guest from an address that is no interface's."`
	Spoofed     uint64 `counter:"spoofed" kind:"drop" help:"Frames of the guest that claim an address of Ethernet or IP that it may not have."`
	TooManyMACs uint64 `counter:"too_many_macs" kind:"drop" help:"Frames of the guest from more addresses than it may have."`
	WrongVLAN   uint64 `counter:"wrong_vlan" kind:"drop" help:"Frames of the guest in a VLAN that its port does not carry."`
	Isolated    uint64 `counter:"isolated" kind:"drop" help:"Frames of the guest to another one that is isolated, as it is."`
	Local       uint64 `counter:"local" kind:"drop" help:"Frames of the guest to an address behind its own port, or to the nearest bridge."`
	Unreached   uint64 `counter:"unreached" kind:"drop" help:"Frames of the guest to another one that takes no frames: its interface is down, or it is gone."`
	Storm       uint64 `counter:"storm" kind:"drop" help:"Frames of the guest to many that were more than it may send in a second."`
	Full        uint64 `counter:"full" kind:"drop" help:"Frames of the guest to another one that had no room for too long."`
	Guarded     uint64 `counter:"guarded" kind:"drop" help:"Frames of the guest that only the router of another guest sends: as from its address, or as a DHCP server or router."`
	Uncut       uint64 `counter:"uncut" kind:"drop" help:"Frames of the guest that had to be cut for a receiver, and could not be."`

	CopiesLost  uint64 `counter:"copies_lost" help:"Copies of frames of the guest to many that one receiver had no room for."`
	Waits       uint64 `counter:"waits" help:"Turns in which a frame of the guest waited in its ring for a receiver without room."`
	NotLearned  uint64 `counter:"not_learned" help:"Frames of the guest from an address for which the table had no room: frames to it go to all ports."`
	Cut         uint64 `counter:"cut" help:"Frames of the guest that were cut, in software, for a receiver that does not take them whole."`
	Summed      uint64 `counter:"summed" help:"Frames of the guest whose checksum was filled in, in software, for a receiver that does not."`
	Discarded   uint64 `counter:"discarded" kind:"drop" help:"Frames to the guest that waited when its receive ring was stopped."`
	NotAccepted uint64 `counter:"not_accepted" kind:"drop" help:"Frames to the guest with an offload that it takes no more."`
	TooLong     uint64 `counter:"too_long" kind:"drop" help:"Frames to the guest that were longer than its buffers."`
}

// Port connects a guest to a Switch. It implements netbackend.Port and netbackend.Link.
type Port struct {
	// What other threads read. It does not change, but for takes, longest, guard and inbox.
	sw       *Switch
	number   int
	vlan     uint16 // of frames without a tag; 0 for none
	tagged   [4096 / 64]uint64
	isolated bool
	fixed    []mac
	binding  *binding // nil for a guest that may have all addresses of IP
	share    int32
	strict   bool          // frames from more addresses than share are dropped
	bell     int           // eventfd that wakes the worker
	takes    atomic.Uint64 // features of the guest, as to offloads
	longest  atomic.Int32  // bytes of a frame that what is behind the Port carries; 0 for any
	guard    atomic.Pointer[guard]
	inbox    inbox

	// What is the worker's.
	worker    netbackend.Worker
	features  uint64
	headerLen int
	watched   bool // bell is registered
	receives  bool
	ports     members // as of this turn
	counters  Counters
	sender
	receiver
}

var (
	_ netbackend.Port = (*Port)(nil)
	_ netbackend.Link = (*Port)(nil)
)

func newPort(s *Switch, number int, cfg *PortConfig) (*Port, error) {
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd of a port of a switch: %w", err)
	}
	p := &Port{sw: s, number: number, bell: bell, isolated: cfg.Isolated, share: int32(cmp.Or(cfg.Learned, s.cfg.PortAddresses))}
	p.setVLANs(cfg)
	for _, b := range cfg.Fixed {
		p.fixed = append(p.fixed, fdb.MACOf(b))
	}
	p.binding = newBinding(cfg.IP)
	if cfg.MaxAddresses > 0 {
		p.share, p.strict = int32(cfg.MaxAddresses), true
	}
	p.inbox.init()
	p.cutter = new(capture.Cutter)
	p.segment = p.putSegment
	p.wake = p.wakePort
	p.flood.init(s.cfg.Flood)
	return p, nil
}

// BellToken is the token of the events of a Port, which are about nothing but that it gets a turn.
const BellToken = uint64(0xfe) << 56

// Offers implements netbackend.Port: what a receiver does not take is done for it.
func (p *Port) Offers() uint64 { return transmitOffloads | receiveOffloads }

// Counters returns what was counted so far. It is for the worker's thread, or for anybody after Close.
func (p *Port) Counters() Counters { return p.counters }

// Addresses returns how many MAC addresses the switch knows behind this Port. Anybody may call it.
func (p *Port) Addresses() int { return p.sw.table.Count(p.number) }

// Start implements netbackend.Port.
func (p *Port) Start(features uint64, w netbackend.Worker) error {
	p.features, p.headerLen, p.worker = features, vnet.HeaderLength(features), w
	p.takes.Store(features & receiveOffloads)
	if p.watched {
		return nil
	}
	if err := w.RegisterInput(p.bell, BellToken); err != nil {
		return fmt.Errorf("watch a port of a switch: %w", err)
	}
	p.watched = true
	return nil
}

// RingsChanged implements netbackend.Port.
func (p *Port) RingsChanged(s netbackend.RingState) {
	p.takes.Store(p.features & receiveOffloads)
	if !s.Connected {
		p.sw.table.Forget(p.number)
	}
	if s.Receive != p.receives {
		p.receives = s.Receive
		p.setReceives()
	}
}

// setReceives lets others know whether the guest takes frames.
func (p *Port) setReceives() {
	p.ports = *p.sw.ports.Load()
	dropped, waiters := p.inbox.setOpen(p.receives)
	p.counters.Discarded += uint64(dropped)
	each(&waiters, p.wake)
}

// Close implements netbackend.Port.
func (p *Port) Close() error {
	p.receives = false
	p.setReceives()
	p.inbox.close()
	p.sw.remove(p)
	if p.watched {
		p.worker.Unregister(p.bell)
	}
	for p.inbox.waking.Load() != 0 { // who is about to write to the eventfd does so at once
		runtime.Gosched()
	}
	return unix.Close(p.bell)
}

// Carries tells others the MTU in bytes of what is behind the Port, for which TCP's segments are cut in software; 0 is any. Longer frames of
// other kinds come nevertheless. Any goroutine may call it.
func (p *Port) Carries(mtu int) {
	longest := 0
	if mtu > 0 {
		longest = mtu + vnet.EthernetHeaderLen
	}
	p.longest.Store(int32(longest))
}

// SetMTU implements netbackend.Link: the switch carries frames of any size.
func (p *Port) SetMTU(int) error { return nil }

// Announce implements netbackend.Link: frames to m come here from now on.
func (p *Port) Announce(m [6]byte) error {
	if p.vlan == 0 {
		return nil
	}
	if p.knowsSource(fdb.MACOf(m), p.vlan, p.at) != none {
		return errors.New("the port of the switch is not bound to this address, or another one is")
	}
	return nil
}

// Turn implements netbackend.Port.
func (p *Port) Turn(now int64, tx []virtqueue.Chain, _ []netbackend.Event, rx *netbackend.RXWriter) (done int, next int64) {
	next = p.Receive(now, rx)
	done, at := p.Send(now, tx, false)
	return done, netbackend.Earlier(next, at)
}

// Receive is the part of Turn that gives the guest frames of others.
func (p *Port) Receive(now int64, rx *netbackend.RXWriter) (next int64) {
	p.at, p.ports = now, *p.sw.ports.Load()
	if p.receives && p.receive(rx) {
		return now
	}
	return 0
}

// Send is the part of Turn that takes the guest's frames. behind says that frames wait behind them that are not for the switch: then it
// waits for its receivers for a tenth of the time at most.
func (p *Port) Send(now int64, tx []virtqueue.Chain, behind bool) (done int, next int64) {
	if len(tx) == 0 {
		return 0, 0
	}
	p.at, p.ports, p.behind = now, *p.sw.ports.Load(), behind
	return p.send(now, tx)
}

// wakePort wakes the thread of a Port that waits for room in the inbox of this one.
func (p *Port) wakePort(number int) {
	if number >= len(p.ports) || p.ports[number] == nil {
		return
	}
	other := p.ports[number]
	if other.inbox.mayWake() {
		other.ring()
	}
}

// one is what is added to an eventfd: 1 in the machine's byte order.
var one = [8]byte{1}

// ring wakes the Port's thread.
func (p *Port) ring() {
	_, _ = unix.Write(p.bell, one[:])
	p.inbox.waking.Add(-1)
}
