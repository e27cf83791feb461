package nat

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
)

// readPingErrors tells the guest what became of echo requests of a series. It returns how many errors were of requests sent
// earlier, and whether one was of the request that the kernel has just refused.
func (p *Port) readPingErrors(f *flow) (earlier int, own bool) {
	for range errorBurst {
		e, ok := p.msg.ReceiveError(f.fd, p.quote[:])
		if !ok {
			break
		}
		if e.Origin == unix.SO_EE_ORIGIN_LOCAL {
			own = true
		} else {
			earlier++
		}
		p.tellPingError(f, &e)
	}
	return earlier, own
}

// tellPingError passes an error of a series on. What the error quotes of the request goes to the guest with the guest's own
// identifier; the kernel's own errors quote nothing, and are of the newest request.
func (p *Port) tellPingError(f *flow, e *hostsock.Error) {
	m, ok := p.errorMessage(f, e)
	if !ok {
		p.counters.PingRefused++
		return
	}
	m.key, m.n, m.l4 = &f.key, icmpLen, f.ping.request[:]
	if quoted := p.quote[:min(e.N, len(p.quote))]; e.Origin != unix.SO_EE_ORIGIN_LOCAL && len(quoted) >= icmpLen {
		restoreIdentifier(quoted, f.key.guestPort)
		m.n, m.l4, m.payload = e.N, quoted[:icmpLen], quoted[icmpLen:]
	}
	p.sendError(m)
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
