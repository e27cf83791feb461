package rings

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vringnet/vring/bench/rings/ceiling"
	"github.com/vringnet/vring/integration/lab/testpmd"
)

// mode is a way of frames, named as the modes of "vring stub".
type mode string

const (
	null   mode = "null"   // from the guest
	source mode = "source" // to the guest
	echo   mode = "echo"   // from the guest and back to it
)

// part says what each program does in a mode.
type part struct {
	front   testpmd.Mode
	dpdk    testpmd.Mode
	ceiling ceiling.Mode
	counter func(testpmd.PortStats) uint64 // of the front end: frames that have gone all the way
}

// parts returns what the programs do, by mode.
func parts() map[mode]part {
	sent := func(s testpmd.PortStats) uint64 { return s.SentPackets }
	received := func(s testpmd.PortStats) uint64 { return s.ReceivedPackets }
	return map[mode]part{
		null:   {testpmd.Transmit, testpmd.Receive, ceiling.Null, sent},
		source: {testpmd.Receive, testpmd.Transmit, ceiling.Source, received},
		echo:   {testpmd.Flows, testpmd.IO, ceiling.Echo, received},
	}
}

// load is what a front end asks of a back end.
type load struct {
	Mode      mode `json:"mode"`
	FrameSize int  `json:"frame_size"` // bytes
	HugePages bool `json:"huge_pages"`
	InOrder   bool `json:"in_order"`  // as far as the back end offers it
	Mergeable bool `json:"mergeable"` // receive buffers
}

// String tells what differs from the first load of the matrix.
func (l load) String() string {
	text := fmt.Sprintf("%s, %d bytes", l.Mode, l.FrameSize)
	if !l.HugePages {
		text += ", 4 KiB pages"
	}
	if !l.InOrder {
		text += ", no IN_ORDER"
	}
	if !l.Mergeable {
		text += ", no MRG_RXBUF"
	}
	return text
}

// device returns the arguments of the front end's device.
func (l load) device() []string {
	digit := map[bool]string{false: "0", true: "1"}
	return []string{"in_order=" + digit[l.InOrder], "mrg_rxbuf=" + digit[l.Mergeable]}
}

// settings returns the loads of a run, without their modes. Usually not every combination is worth its time: each dimension
// varies beside the main load, 64 bytes with everything on, and what hurts most is combined.
func settings(quick, full bool) []load {
	main := load{FrameSize: 64, HugePages: true, InOrder: true, Mergeable: true}
	switch {
	case quick:
		return []load{main}
	case full:
		return everySetting()
	}
	return []load{
		main,
		{FrameSize: 256, HugePages: true, InOrder: true, Mergeable: true},
		{FrameSize: 1500, HugePages: true, InOrder: true, Mergeable: true},
		{FrameSize: 64, HugePages: true, InOrder: false, Mergeable: true},
		{FrameSize: 64, HugePages: true, InOrder: true, Mergeable: false},
		{FrameSize: 64, HugePages: false, InOrder: false, Mergeable: true},
		{FrameSize: 1500, HugePages: false, InOrder: false, Mergeable: true},
	}
}

func everySetting() (all []load) {
	onOff := []bool{true, false}
	for _, size := range []int{64, 256, 1500} {
		for _, pages := range onOff {
			for _, order := range onOff {
				for _, merge := range onOff {
					all = append(all, load{FrameSize: size, HugePages: pages, InOrder: order, Mergeable: merge})
				}
			}
		}
	}
	return all
}

// matrix returns the settings in each of the modes, all of them if only is empty.
func matrix(settings []load, only []mode) []load {
	var all []load
	for _, s := range settings {
		for _, m := range []mode{null, source, echo} {
			if len(only) == 0 || slices.Contains(only, m) {
				s.Mode = m
				all = append(all, s)
			}
		}
	}
	return all
}

// parseModes reads a list of modes.
func parseModes(names []string) ([]mode, error) {
	var modes []mode
	for _, name := range names {
		if _, ok := parts()[mode(name)]; !ok {
			return nil, fmt.Errorf("--mode %q: want null, source or echo", strings.TrimSpace(name))
		}
		modes = append(modes, mode(name))
	}
	return modes, nil
}
