package nat

import (
	"github.com/vringnet/vring/netbackend/nat/internal/multicast"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
)

// openGroups opens what Config.Multicast needs; nil if it needs nothing.
func (c *Config) openGroups() (*multicast.Reflector, error) {
	if len(c.Multicast) == 0 {
		return nil, nil
	}
	return multicast.Open(multicast.Config{Interfaces: c.Multicast, IPv6: c.Prefix6.IsValid(), Loop: c.opensDiscovery()})
}

// opensDiscovery reports whether the guest may use a service of the host that answers mDNS or SSDP. If not, programs of the host
// are not to hear its questions.
func (c *Config) opensDiscovery() bool {
	for _, s := range c.AllowHost {
		if s.Proto == netpkt.UDP && s.Addr.IsValid() && (s.Port == multicast.MDNSPort || s.Port == multicast.SSDPPort) {
			return true
		}
	}
	return false
}

// groupFiles is how many descriptors Config.Multicast takes.
func (c *Config) groupFiles() int {
	if len(c.Multicast) == 0 {
		return 0
	}
	return multicast.Files(len(c.Multicast))
}
