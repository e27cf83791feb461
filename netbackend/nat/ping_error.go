package nat

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
)

// readPingErrors tells the guest what became of echo requests of a series. It returns how many errors were of requests sent
// earlier, and whether one was of the request that the kernel has just refused.
func (e *pingEngine) readPingErrors(t *turn, f *flow) (earlier int, own bool) {
	for range errorBurst {
		fault, ok := t.msg.ReceiveError(f.fd, t.quote[:])
		if !ok {
			break
		}
		if fault.Origin == unix.SO_EE_ORIGIN_LOCAL {
			own = true
		} else {
			earlier++
		}
		e.tellPingError(t, f, &fault)
	}
	return earlier, own
}

// tellPingError passes an error of a series on. What the error quotes of the request goes to the guest with the guest's own
// identifier; the kernel's own errors quote nothing, and are of the newest request.
func (e *pingEngine) tellPingError(t *turn, f *flow, fault *hostsock.Error) {
	m, ok := e.icmp.errorMessage(f, fault)
	if !ok {
		t.counters.PingRefused++
		return
	}
	m.key, m.n, m.l4 = &f.key, icmpLen, e.requests.At(f.index).head[:]
	if quoted := t.quote[:min(fault.N, len(t.quote))]; fault.Origin != unix.SO_EE_ORIGIN_LOCAL && len(quoted) >= icmpLen {
		restoreIdentifier(quoted, f.key.GuestPort)
		m.n, m.l4, m.payload = fault.N, quoted[:icmpLen], quoted[icmpLen:]
	}
	e.icmp.sendError(t, m)
}

// restoreIdentifier writes the guest's identifier into an ICMP header in the place of the kernel's, and corrects the checksum
// by the difference (RFC 1624). In IPv6 the host's address stays in the sum, which nobody looks at in a quote.
func restoreIdentifier(icmp []byte, id uint16) {
	sum := uint32(^binary.BigEndian.Uint16(icmp[2:])) + uint32(^binary.BigEndian.Uint16(icmp[4:])) + uint32(id)
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(icmp[2:], ^uint16(sum))
	binary.BigEndian.PutUint16(icmp[4:], id)
}
