package shard

import (
	"github.com/vringnet/vring/netbackend/nat/internal/ratelimit"
)

// KernelLimits are what a guest may use of the host's kernel, beside sockets.
type KernelLimits struct {
	// UnansweredFlows is how many flows the guest may begin at once that nobody answers; then it may begin 500 a second.
	UnansweredFlows int
	// Memory is how much the kernel may hold for the guest in buffers of sockets, in bytes, before it holds no more than
	// 16 KiB in each.
	Memory int64

	guests      int               // of the process, 0 for one without others
	commonFlows *ratelimit.Bucket // of all guests of the process; nil for one without others
}

// UsualKernelLimits are those of a guest by default.
func UsualKernelLimits() KernelLimits {
	return KernelLimits{UnansweredFlows: usualNewFlows, Memory: usualKernelMemory}
}

// IsDivided reports whether among has divided the limits.
func (l *KernelLimits) IsDivided() bool { return l.guests != 0 }

// Among divides the limits among n guests.
func (l KernelLimits) Among(n int) KernelLimits {
	return l.Share(n, HostKernelMemory(), NewCommonFlows(l.UnansweredFlows))
}

// Share is the share of one of so many guests, of memory and of what all guests of the process may begin beyond their shares.
func (l KernelLimits) Share(guests int, memory int64, common *ratelimit.Bucket) KernelLimits {
	l.guests, l.commonFlows = guests, common
	l.Memory = min(l.Memory, memory/int64(guests))
	return l
}
