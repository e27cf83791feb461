package measure

import "time"

// Times is the processor time of some threads. A processor that they wait for is busy with somebody else: much of it
// says that the machine was too small, or not left alone.
type Times struct {
	Running time.Duration `json:"running_ns"`
	Waiting time.Duration `json:"waiting_ns"` // ready to run
}

// Add returns the sum of two.
func (t Times) Add(u Times) Times { return Times{t.Running + u.Running, t.Waiting + u.Waiting} }

// Sub returns the time since an earlier reading.
func (t Times) Sub(earlier Times) Times {
	return Times{t.Running - earlier.Running, t.Waiting - earlier.Waiting}
}

// Usage is processor time, by who has spent it.
type Usage struct {
	BackEnd Times         `json:"back_end"` // the back end's processes, 0 if there is none
	Guest   Times         `json:"guest"`    // the guest with its front end, 0 if there is none
	Host    time.Duration `json:"host_ns"`  // this process: the host's end of the stream, or both ends
}

// Sub returns what was spent since an earlier reading.
func (u Usage) Sub(earlier Usage) Usage {
	return Usage{u.BackEnd.Sub(earlier.BackEnd), u.Guest.Sub(earlier.Guest), u.Host - earlier.Host}
}

// Sample is one transfer.
type Sample struct {
	Bytes   int64         `json:"bytes"`      // that arrived
	Elapsed time.Duration `json:"elapsed_ns"` // from before the first byte until all had arrived
	CPU     Usage         `json:"cpu"`
}

// Rate returns Gbit/s.
func (s Sample) Rate() float64 {
	if s.Elapsed <= 0 {
		return 0
	}
	return float64(s.Bytes) * 8 / float64(s.Elapsed.Nanoseconds())
}

// PerGB spreads processor time over the bytes of the sample, in seconds per GB.
func (s Sample) PerGB(cpu time.Duration) float64 {
	if s.Bytes <= 0 {
		return 0
	}
	return float64(cpu.Nanoseconds()) / float64(s.Bytes)
}

// Share returns a time as a share of one processor for as long as the sample took, 1 being all of it.
func (s Sample) Share(d time.Duration) float64 {
	if s.Elapsed <= 0 {
		return 0
	}
	return float64(d) / float64(s.Elapsed)
}
