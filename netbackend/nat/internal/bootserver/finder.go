package bootserver

import (
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/guestnet"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/services/tftp"
)

// Finder knows what of a guest's is meant for the server. The zero value knows nothing.
type Finder struct {
	server *Server
	nets   *guestnet.Networks
	policy *policy.Policy
}

// NewFinder returns a Finder for a guest in nets. What p leads elsewhere goes first: the user has named it.
func NewFinder(s *Server, nets *guestnet.Networks, p *policy.Policy) Finder {
	return Finder{s, nets, p}
}

// Find returns the server if a flow leads to it, nil if it leads elsewhere.
func (f *Finder) Find(key *flowtable.Key) *Server {
	if f.server == nil || key.Proto != netpkt.UDP || key.RemotePort != tftp.Port || !f.nets.IsGateway(&key.Remote) || f.policy.Leads(policy.DestinationOf(key)) {
		return nil
	}
	return f.server
}
