package taps

import (
	"fmt"

	"github.com/vringnet/vring/bench/testbed"
)

// contest is a front end with its traffic.
type contest string

const (
	frames contest = "frames" // testpmd
	qemus  contest = "qemu"
	umls   contest = "uml"
	pairs  contest = "pair" // two guests
)

// contests are all of them, in the order in which they are run.
var contests = [...]contest{frames, qemus, umls, pairs}

// load is what the subjects of a contest do in a turn.
type load struct {
	Contest   contest           `json:"contest"`
	Size      int               `json:"size"` // bytes of a frame, or the MTU of a stream
	Direction testbed.Direction `json:"direction"`
}

func (l load) String() string { return fmt.Sprintf("%s %d %s", l.Contest, l.Size, l.Direction) }

// loads returns the loads of a contest.
func (c contest) loads() []load {
	sizes := []int{1500}
	if c == frames {
		sizes = []int{64, 1500}
	}
	var loads []load
	directions := []testbed.Direction{testbed.Out, testbed.In}
	if c == pairs {
		directions = directions[:1] // both ends are guests
	}
	for _, size := range sizes {
		for _, direction := range directions {
			loads = append(loads, load{c, size, direction})
		}
	}
	return loads
}
