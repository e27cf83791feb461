package shard

import (
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// TakesTSO tells whether the guest, by its address, takes frames of many TCP segments.
func (s *Shard) TakesTSO(guest *ipaddr.Addr) bool {
	if guest.Is4() {
		return s.takes(vnet.FeatureGuestTSO4)
	}
	return s.takes(vnet.FeatureGuestTSO6)
}

// TakesUSO tells whether the guest, by its address, takes frames of many datagrams.
func (s *Shard) TakesUSO(guest *ipaddr.Addr) bool {
	if guest.Is4() {
		return s.takes(vnet.FeatureGuestUSO4)
	}
	return s.takes(vnet.FeatureGuestUSO6)
}

// takes tells whether the guest has acknowledged an offload, and finishes checksums, without which there is none.
func (s *Shard) takes(offload uint64) bool { return s.GuestCsum && s.Features&offload != 0 }
