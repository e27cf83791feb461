package nat

import (
	"github.com/vringnet/vring/netbackend/nat/internal/namerelay"
	"github.com/vringnet/vring/netbackend/nat/internal/ratelimit"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// Shares is what the guests of one process have of it together, and how it is divided among them: descriptors, memory of the kernel, new
// flows, queries for names. It is made while the process may still look at the host, and does not change.
type Shares struct {
	usual       Config     // DefaultConfig, as the host was then
	first       guestShare // of each guest that there is at first
	later       guestShare // of each that comes later
	resolvers   *namerelay.Quotas
	commonFlows *ratelimit.Bucket
}

// guestShare is that of one guest.
type guestShare struct {
	guests  int // that have as much
	sockets int // descriptors
	memory  int64
}

// leastLater is how many descriptors a guest that comes later has at least. A process that may open few leaves them all to its first guests.
const leastLater = 1024

// NewShares divides what the process has among so many guests, and leaves as much for so many others that may come later, or fewer: see
// Shares.Later.
func NewShares(guests, later int) *Shares {
	usual := DefaultConfig()
	s := &Shares{usual: usual, resolvers: namerelay.NewQuotas(), commonFlows: shard.NewCommonFlows(usual.Kernel.UnansweredFlows)}
	sockets, memory := usual.MaxSockets, shard.HostKernelMemory()
	s.first = guestShare{guests: max(guests, 1), sockets: sockets, memory: memory}
	if rest := sockets / 2; rest >= leastLater && later > 0 {
		s.later = guestShare{guests: min(later, rest/leastLater), sockets: rest, memory: memory / 2}
		s.first.sockets, s.first.memory = sockets-rest, memory-s.later.memory
	}
	return s
}

// Later is how many guests may come later, at once.
func (s *Shares) Later() int { return s.later.guests }

// Usual is DefaultConfig as it was when the shares were made. It does not look at the host.
func (s *Shares) Usual() Config { return s.usual }

// Learn lets the guests' engines learn names, see Config.Learn. It is called before Usual.
func (s *Shares) Learn() { s.usual.Learn = true }

// HasIPv6 reports whether the host knows IPv6.
func (s *Shares) HasIPv6() bool { return s.usual.Prefix6.IsValid() }

// limit gives a configuration the share of a guest.
func (s *Shares) limit(c *Config, of *guestShare) {
	n := max(of.guests, 1)
	c.resolvers, c.Kernel = s.resolvers, c.Kernel.Share(n, of.memory, s.commonFlows)
	c.MaxSockets = of.sockets/n - filesPerGuest(c.Queues) - c.groupFiles()
}
