package frontend

import (
	"fmt"

	"github.com/vringnet/vring/vhostuser/wire"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// Order is the order of messages in which a front end brings its device up.
type Order uint8

const (
	QEMU            Order = iota // 7.2
	CloudHypervisor              // sizes first, ADDR before BASE, ENABLE last
	DPDK                         // virtio-user 22.11: receive rings first, then transmit rings
	UserModeLinux                // 6.1: all kicks after all rings were described
	QEMU11                       // 11.1: memory by slots
)

func (o Order) String() string {
	switch o {
	case QEMU:
		return "QEMU"
	case CloudHypervisor:
		return "CloudHypervisor"
	case DPDK:
		return "DPDK"
	case UserModeLinux:
		return "UserModeLinux"
	case QEMU11:
		return "QEMU11"
	}
	return fmt.Sprintf("Order(%d)", uint8(o))
}

// Ring describes one ring. Its place in Setup.Rings is its index.
type Ring struct {
	Num               uint32
	Desc, Avail, Used guestmem.UVA
	Base              uint16
	KickFD, CallFD    int // -1 for none
	ErrFD             int // passed if above 0; 0 and -1 mean none
}

// Setup describes a device.
type Setup struct {
	Features uint64            // wanted; what is not offered is left out. FeatureProtocolFeatures decides by itself
	Memory   []guestmem.Region // with their files
	Rings    []Ring
	MTU      int // told if the back end knows NET_SET_MTU; 0 for none
	Order    Order
}

// Step is one message with its descriptors.
type Step struct {
	Message wire.Message
	FDs     []int
}

// Do sends the message of a step, see [Conn.Send]. NEED_REPLY is dropped if it was not negotiated.
func (c *Conn) Do(s Step) error {
	if c.protocol&wire.ProtocolReplyAck == 0 {
		s.Message.NeedReply = false
	}
	return c.Send(s.Message, s.FDs...)
}

// Negotiate does what a front end begins with: it acknowledges of the protocol features what is on offer, and remembers
// what of the wanted virtio features is, for [Setup.Steps] to acknowledge.
func (c *Conn) Negotiate(features, protocol uint64) error {
	offered, err := c.GetFeatures()
	if err != nil {
		return err
	}
	c.features = offered & (features | wire.FeatureProtocolFeatures)
	if offered&wire.FeatureProtocolFeatures != 0 {
		p, err := c.GetProtocolFeatures()
		if err != nil {
			return err
		}
		if err := c.SetProtocolFeatures(p & protocol); err != nil {
			return err
		}
		c.protocol = p & protocol
	}
	return c.SetOwner()
}

// Protocol returns the protocol features that the front end of s knows. Only with all of them its Steps can be taken.
func (s *Setup) Protocol() uint64 {
	f := wire.ProtocolMQ | wire.ProtocolRARP | wire.ProtocolReplyAck | wire.ProtocolNetMTU | wire.ProtocolBackendReq
	if s.Order == QEMU11 {
		f |= wire.ProtocolConfigureMemSlots | wire.ProtocolResetDevice | wire.ProtocolLogSHMFD
	}
	return f
}

// Setup negotiates and brings the device up.
func (c *Conn) Setup(s Setup) error {
	if err := c.Negotiate(s.Features, s.Protocol()); err != nil {
		return err
	}
	if s.MTU != 0 && c.protocol&wire.ProtocolNetMTU != 0 {
		if err := c.SetMTU(s.MTU); err != nil {
			return err
		}
	}
	for _, step := range s.Steps(c.features) {
		if err := c.Do(step); err != nil {
			return fmt.Errorf("%v: %w", step.Message.Request, err)
		}
	}
	return nil
}

// Stop stops the rings of s and returns their bases, as QEMU does when the guest is reset or paused.
func (c *Conn) Stop(s Setup) ([]uint16, error) {
	bases := make([]uint16, len(s.Rings))
	for i := range s.Rings {
		var err error
		if bases[i], err = c.GetVringBase(i); err != nil {
			return nil, err
		}
	}
	return bases, nil
}

// Steps returns the messages that follow the negotiation, in the order of s. The features are acknowledged as they are.
func (s *Setup) Steps(features uint64) []Step {
	switch s.Order {
	case CloudHypervisor:
		return s.cloudHypervisor(features)
	case DPDK:
		return s.dpdk(features)
	case UserModeLinux:
		return s.userModeLinux(features)
	}
	return s.qemu(features)
}

func (s *Setup) qemu(features uint64) []Step {
	var steps []Step
	for i, r := range s.Rings {
		steps = append(steps, notifier(wire.SetVringCall, i, r.CallFD))
		steps = append(steps, r.errStep(i)...)
	}
	for i := range s.Rings {
		steps = append(steps, enable(i, true))
	}
	steps = append(append(steps, setFeatures(features)), s.memory()...)
	for i, r := range s.Rings {
		steps = append(steps, r.num(i), r.base(i), r.addr(i),
			notifier(wire.SetVringKick, i, r.KickFD), notifier(wire.SetVringCall, i, r.CallFD))
	}
	return steps
}

func (s *Setup) cloudHypervisor(features uint64) []Step {
	steps := []Step{setFeatures(features), memTable(s.Memory)}
	for i, r := range s.Rings {
		steps = append(steps, r.num(i))
	}
	for i, r := range s.Rings {
		steps = append(steps, r.addr(i), r.base(i),
			notifier(wire.SetVringCall, i, r.CallFD), notifier(wire.SetVringKick, i, r.KickFD))
		steps = append(steps, r.errStep(i)...)
	}
	for i := range s.Rings {
		steps = append(steps, enable(i, true))
	}
	return steps
}

func (s *Setup) dpdk(features uint64) []Step {
	steps := []Step{setFeatures(features)}
	s.receiveFirst(func(i int, r Ring) {
		steps = append(steps, notifier(wire.SetVringCall, i, r.CallFD))
		steps = append(steps, r.errStep(i)...)
	})
	steps = append(steps, memTable(s.Memory))
	s.receiveFirst(func(i int, r Ring) {
		steps = append(steps, r.num(i), r.base(i), r.addr(i), notifier(wire.SetVringKick, i, r.KickFD))
	})
	for i := range s.Rings {
		steps = append(steps, enable(i, true))
	}
	return steps
}

func (s *Setup) userModeLinux(features uint64) []Step {
	steps := []Step{setFeatures(features), memTable(s.Memory)}
	for i, r := range s.Rings {
		steps = append(steps, notifier(wire.SetVringCall, i, r.CallFD), r.num(i), r.base(i), r.addr(i))
		steps = append(steps, r.errStep(i)...)
	}
	for i, r := range s.Rings {
		steps = append(steps, notifier(wire.SetVringKick, i, r.KickFD), enable(i, true))
	}
	return steps
}

// receiveFirst calls do for rings 0, 2, ... and then for 1, 3, ...
func (s *Setup) receiveFirst(do func(i int, r Ring)) {
	for first := range 2 {
		for i := first; i < len(s.Rings); i += 2 {
			do(i, s.Rings[i])
		}
	}
}

func (r *Ring) num(i int) Step {
	return Step{Message: wire.Message{Request: wire.SetVringNum, Ring: uint32(i), Num: r.Num}}
}

func (r *Ring) base(i int) Step {
	return Step{Message: wire.Message{Request: wire.SetVringBase, Ring: uint32(i), Num: uint32(r.Base)}}
}

func (r *Ring) addr(i int) Step {
	return Step{Message: wire.Message{Request: wire.SetVringAddr, Ring: uint32(i),
		Addr: wire.RingAddr{Desc: uint64(r.Desc), Used: uint64(r.Used), Avail: uint64(r.Avail)}}}
}

func (r *Ring) errStep(i int) []Step {
	if r.ErrFD <= 0 {
		return nil
	}
	return []Step{notifier(wire.SetVringErr, i, r.ErrFD)}
}

func notifier(request wire.Request, ring, fd int) Step {
	m := wire.Message{Request: request, Ring: uint32(ring), NoFD: fd < 0}
	if fd < 0 {
		return Step{Message: m}
	}
	return Step{Message: m, FDs: []int{fd}}
}

func enable(ring int, on bool) Step {
	m := wire.Message{Request: wire.SetVringEnable, Ring: uint32(ring)}
	if on {
		m.Num = 1
	}
	return Step{Message: m}
}

func setFeatures(f uint64) Step {
	return Step{Message: wire.Message{Request: wire.SetFeatures, Value: f}}
}

// memory passes the guest's memory as QEMU does.
func (s *Setup) memory() []Step {
	if s.Order != QEMU11 {
		return []Step{memTable(s.Memory)}
	}
	var steps []Step
	for _, r := range s.Memory {
		steps = append(steps, addMemory(r))
	}
	return steps
}

func addMemory(r guestmem.Region) Step {
	return Step{Message: slotMessage(wire.AddMemReg, r), FDs: []int{r.FD}}
}

func slotMessage(request wire.Request, r guestmem.Region) wire.Message {
	return wire.Message{Request: request, NeedReply: true, Regions: []wire.Region{wireRegion(r)}}
}

func wireRegion(r guestmem.Region) wire.Region {
	return wire.Region{GPA: uint64(r.GPA), Size: r.Size, UVA: uint64(r.UVA), Offset: r.Offset}
}

func memTable(regions []guestmem.Region) Step {
	s := Step{Message: wire.Message{Request: wire.SetMemTable, NeedReply: true}}
	for _, r := range regions {
		s.Message.Regions = append(s.Message.Regions, wireRegion(r))
		s.FDs = append(s.FDs, r.FD)
	}
	return s
}
