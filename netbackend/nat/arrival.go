package nat

import (
	"encoding/binary"

	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
)

// putArrival writes a into the IP header ip, whose other fields are there.
func putArrival(a hostsock.Arrival, ip []byte) {
	if a == (hostsock.Arrival{}) {
		return
	}
	if ip[0]>>4 == 4 {
		ip[1], ip[8] = a.TrafficClass, a.HopLimit
		sumIPv4(ip)
		return
	}
	binary.BigEndian.PutUint16(ip, 6<<12|uint16(a.TrafficClass)<<4)
	ip[7] = a.HopLimit
}
