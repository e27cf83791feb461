package vhostuser

import (
	"fmt"

	"github.com/vringnet/vring/vhostuser/wire"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// ring is what a front end has told about one ring, in whatever order, and what became of it.
type ring struct {
	num      uint32          // SET_VRING_NUM; 0 until it came
	state    virtqueue.State // SET_VRING_BASE, or where the ring was stopped
	haveBase bool            // SET_VRING_BASE came
	// exact is set when the ring was stopped, or described anew, in this session: the front end knows where it stands. Before
	// that a back end may have died, and the front end may not know how far that had come.
	exact    bool
	addr     wire.RingAddr
	haveAddr bool // addr is current: the ring may be started there
	haveKick bool // SET_VRING_KICK came since the ring was last stopped by GET_VRING_BASE
	fds      virtqueue.RingFDs

	logging virtqueue.Logging // as the device has it, while the ring runs

	enabled bool
	running bool // the device serves it
	// refused is set when the ring cannot be served as it was described; nothing is tried until the description changes.
	refused bool
}

func newRing() ring {
	return ring{fds: virtqueue.RingFDs{Kick: noFD, Call: noFD, Err: noFD}}
}

// forget makes the ring one that nothing was told about. Its call and error descriptors are kept: front ends that pass them
// once, at the beginning, do not pass them again.
func (r *ring) forget() {
	closeFD(r.fds.Kick)
	kept := r.fds
	*r = newRing()
	r.fds.Call, r.fds.Err = kept.Call, kept.Err
	r.exact = true
}

// complete tells whether everything came that a ring needs. A missing SET_VRING_BASE means 0.
func (r *ring) complete() bool {
	return r.num != 0 && r.haveAddr && r.haveKick
}

// config describes ring i to the device.
func (r *ring) config(i int, features uint64) (virtqueue.Config, error) {
	const maxSize = 1 << 15
	if r.num > maxSize {
		return virtqueue.Config{}, fmt.Errorf("size %d is above %d", r.num, maxSize)
	}
	dir := virtqueue.ToGuest
	if i%2 == 1 {
		dir = virtqueue.FromGuest
	}
	return virtqueue.Config{
		Size:         uint16(r.num),
		Desc:         guestmem.UVA(r.addr.Desc),
		Avail:        guestmem.UVA(r.addr.Avail),
		Used:         guestmem.UVA(r.addr.Used),
		State:        r.state,
		StateIsExact: r.exact,
		Dir:          dir,
		Indirect:     features&vnet.FeatureIndirectDesc != 0,
		EventIdx:     features&vnet.FeatureEventIdx != 0,
		Log:          r.logging,
	}, nil
}

// within tells whether the areas of the ring lie in t (virtio 1.2 section 2.7). The event fields count in any case: if
// just they are missing and not needed, the ring is stopped and started again.
func (r *ring) within(t *guestmem.Table) bool {
	n := uint64(r.num)
	for _, area := range []struct{ addr, size uint64 }{
		{r.addr.Desc, 16 * n},
		{r.addr.Avail, 6 + 2*n},
		{r.addr.Used, 6 + 8*n},
	} {
		if _, ok := t.PointerUVA(guestmem.UVA(area.addr), area.size); !ok {
			return false
		}
	}
	return true
}
