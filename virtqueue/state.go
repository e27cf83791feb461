package virtqueue

import (
	"fmt"
	"math"
)

// State is where a device stands in a ring between two runs: what a front end tells before it starts the ring, and is told
// when the ring has stopped. It is plain data. What it says is not believed before [Config.Check].
//
// The zero value is that of a split ring that has not run yet.
type State struct {
	Avail uint16 // index of the next available entry to use (virtio 1.2 section 2.7.6)
	Used  uint16 // index of the next used element to write (section 2.7.8)
	// AvailWrap and UsedWrap are the wrap counters of a packed ring (section 2.8.1), false for a split ring.
	AvailWrap, UsedWrap bool
}

// SplitState is the state of a split ring in which all entries before index were used, and none from there on. A [Queue]
// uses entries in order, so each of its states is of this kind.
func SplitState(index uint16) State { return State{Avail: index, Used: index} }

// StateFromBase is the state of a split ring that a front end describes by its base (VHOST_USER_SET_VRING_BASE). The upper
// half of the word is for packed rings, and must be 0. The error wraps [ErrConfig].
func StateFromBase(base uint32) (State, error) {
	if base > math.MaxUint16 {
		return State{}, fmt.Errorf("%w: base %#x: want at most %#x for a split ring", ErrConfig, base, math.MaxUint16)
	}
	return SplitState(uint16(base)), nil
}

// Base is the inverse of [StateFromBase]: the answer to VHOST_USER_GET_VRING_BASE.
func (s State) Base() uint32 { return uint32(s.Avail) }

// check refuses what is no state of a split ring whose entries are used in order.
func (s State) check() error {
	switch {
	case s.AvailWrap || s.UsedWrap:
		return fmt.Errorf("%w: state with a wrap counter: a split ring has none", ErrConfig)
	case s.Avail != s.Used:
		return fmt.Errorf("%w: state with available index %d and used index %d: want the same, entries are used in order",
			ErrConfig, s.Avail, s.Used)
	}
	return nil
}
