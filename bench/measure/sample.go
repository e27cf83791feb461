package measure

import "time"

// Usage is processor time, by who has spent it.
type Usage struct {
	BackEnd time.Duration `json:"back_end_ns"` // the back end's processes, 0 if there is none
	Guest   time.Duration `json:"guest_ns"`    // the guest with its front end, 0 if there is none
	Host    time.Duration `json:"host_ns"`     // this process: the host's end of the stream, or both ends
}

// Sub returns what was spent since an earlier reading.
func (u Usage) Sub(earlier Usage) Usage {
	return Usage{u.BackEnd - earlier.BackEnd, u.Guest - earlier.Guest, u.Host - earlier.Host}
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

// GuestBusy returns how much of one processor the guest has used, 1 being all of it.
func (s Sample) GuestBusy() float64 {
	if s.Elapsed <= 0 {
		return 0
	}
	return float64(s.CPU.Guest) / float64(s.Elapsed)
}
