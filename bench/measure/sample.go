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
	BackEnd Times         `json:"back_end"` // what carries frames: the back end's processes, and the front end's network
	Guest   Times         `json:"guest"`    // the guest, or the program in its place
	Host    time.Duration `json:"host_ns"`  // this process: the host's end of the traffic
}

// Sub returns what was spent since an earlier reading.
func (u Usage) Sub(earlier Usage) Usage {
	return Usage{u.BackEnd.Sub(earlier.BackEnd), u.Guest.Sub(earlier.Guest), u.Host - earlier.Host}
}

// Sample is one run of traffic.
type Sample struct {
	Count   int64         `json:"count"`      // bytes or datagrams that arrived, or exchanges that were done
	Sent    int64         `json:"sent"`       // bytes or datagrams that were sent, or exchanges that were begun
	Elapsed time.Duration `json:"elapsed_ns"` // from before the first until the last
	CPU     Usage         `json:"cpu"`
	// Percentiles of how long an exchange took, 0 if there were none.
	P50 time.Duration `json:"p50_ns,omitempty"`
	P99 time.Duration `json:"p99_ns,omitempty"`
}

// Rate returns the count per second.
func (s Sample) Rate() float64 {
	if s.Elapsed <= 0 {
		return 0
	}
	return float64(s.Count) / s.Elapsed.Seconds()
}

// Per spreads processor time over what was counted, in seconds.
func (s Sample) Per(cpu time.Duration) float64 {
	if s.Count <= 0 {
		return 0
	}
	return cpu.Seconds() / float64(s.Count)
}

// Loss returns the share of what was sent that has not arrived.
func (s Sample) Loss() float64 {
	if s.Sent <= 0 {
		return 0
	}
	return 1 - float64(s.Count)/float64(s.Sent)
}

// Share returns a time as a share of one processor for as long as the sample took, 1 being all of it.
func (s Sample) Share(d time.Duration) float64 {
	if s.Elapsed <= 0 {
		return 0
	}
	return float64(d) / float64(s.Elapsed)
}
