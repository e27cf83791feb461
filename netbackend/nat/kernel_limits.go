package nat

// KernelLimits are what a guest may use of the host's kernel, beside sockets.
type KernelLimits struct {
	// UnansweredFlows is how many flows the guest may begin at once that nobody answers; then it may begin 500 a second.
	UnansweredFlows int

	guests      int     // of the process, 0 for one without others
	commonFlows *bucket // of all guests of the process; nil for one without others
}

func usualKernelLimits() KernelLimits { return KernelLimits{UnansweredFlows: usualNewFlows} }

// among divides the limits among n guests.
func (l KernelLimits) among(n int) KernelLimits {
	l.guests, l.commonFlows = n, newCommonFlows(l.UnansweredFlows)
	return l
}
