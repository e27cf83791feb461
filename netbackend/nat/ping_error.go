package nat

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
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
	m.key, m.n, m.l4 = &f.key, netpkt.ICMPLen, e.requests.At(f.index).head[:]
	if quoted := t.quote[:min(fault.N, len(t.quote))]; fault.Origin != unix.SO_EE_ORIGIN_LOCAL && len(quoted) >= netpkt.ICMPLen {
		netpkt.ReplaceIdentifier(quoted, f.key.GuestPort)
		m.n, m.l4, m.payload = fault.N, quoted[:netpkt.ICMPLen], quoted[netpkt.ICMPLen:]
	}
	e.icmp.sendError(t, m)
}
