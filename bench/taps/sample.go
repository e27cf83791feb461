package taps

import (
	"fmt"

	"github.com/vringnet/vring/bench/measure"
)

// sample is one turn of a subject. What it counts are bytes.
type sample struct {
	measure.Sample
	Frames   int64         `json:"frames,omitempty"`   // of the contest of that name
	MainLoop measure.Times `json:"main_loop,omitzero"` // of QEMU
}

// bitRate returns Gbit/s.
func (s sample) bitRate() float64 { return s.Rate() * 8 / 1e9 }

// frameRate returns millions of frames a second.
func (s sample) frameRate() float64 {
	if s.Elapsed <= 0 {
		return 0
	}
	return float64(s.Frames) * 1e3 / float64(s.Elapsed.Nanoseconds())
}

// perMillion returns the back end's processor time in seconds per million frames.
func (s sample) perMillion() float64 {
	if s.Frames <= 0 {
		return 0
	}
	return s.CPU.BackEnd.Running.Seconds() * 1e6 / float64(s.Frames)
}

// backEndPerGB returns the back end's processor time in seconds per GB.
func (s sample) backEndPerGB() float64 { return 1e9 * s.Per(s.CPU.BackEnd.Running) }

// mainLoopPerGB is the same of QEMU's main loop.
func (s sample) mainLoopPerGB() float64 { return 1e9 * s.Per(s.MainLoop.Running) }

// perSecond returns bytes per nanosecond of the back end's processor time.
func (s sample) perSecond() float64 {
	if s.CPU.BackEnd.Running <= 0 {
		return 0
	}
	return float64(s.Count) / float64(s.CPU.BackEnd.Running.Nanoseconds())
}

// usage reads how much processor time was used so far; what a subject has not is zero.
type usage struct {
	backEnd, guest, mainLoop measure.Times
}

// since puts the time since an earlier reading into a sample.
func (u usage) since(earlier usage, s *sample) {
	s.CPU = measure.Usage{BackEnd: u.backEnd.Sub(earlier.backEnd), Guest: u.guest.Sub(earlier.guest)}
	s.MainLoop = u.mainLoop.Sub(earlier.mainLoop)
}

// guestBusy returns the guest's share of a processor.
func (s sample) guestBusy() float64 { return s.Share(s.CPU.Guest.Running) }

func (s sample) String() string {
	if s.Frames > 0 {
		return fmt.Sprintf("%.3f Mpps, %.3f CPU s per million frames", s.frameRate(), s.perMillion())
	}
	return fmt.Sprintf("%.2f Gbit/s, %.3f CPU s per GB", s.bitRate(), s.backEndPerGB())
}
