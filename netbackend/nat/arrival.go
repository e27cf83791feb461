package nat

import (
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
)

// putArrival writes a into the IP header ip, whose other fields are there.
func putArrival(a hostsock.Arrival, ip []byte) {
	if a != (hostsock.Arrival{}) {
		netpkt.SetHops(ip, a.HopLimit, a.TrafficClass)
	}
}
