package nat

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// readPingErrors tells the guest what became of echo requests of a series. It returns how many errors were of requests sent
// earlier, and whether one was of the request that the kernel has just refused.
func (e *pingEngine) readPingErrors(t *shard.Turn, f *shard.Flow) (earlier int, own bool) {
	for range shard.ErrorBurst {
		fault, ok := t.Msg.ReceiveError(f.FD, t.Quote[:])
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
func (e *pingEngine) tellPingError(t *shard.Turn, f *shard.Flow, fault *hostsock.Error) {
	m, ok := e.icmp.errorMessage(f, fault)
	if !ok {
		t.Counters.PingRefused++
		return
	}
	m.key, m.n, m.l4 = &f.Key, netpkt.ICMPLen, e.newest(f)
	if quoted := t.Quote[:min(fault.N, len(t.Quote))]; fault.Origin != unix.SO_EE_ORIGIN_LOCAL && len(quoted) >= netpkt.ICMPLen {
		netpkt.ReplaceIdentifier(quoted, f.Key.GuestPort)
		m.n, m.l4, m.payload = fault.N, quoted[:netpkt.ICMPLen], quoted[netpkt.ICMPLen:]
	}
	e.icmp.sendError(t, m)
}
