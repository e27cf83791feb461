package ping

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// readErrors tells the guest what became of echo requests of a series. It returns how many errors were of requests sent
// earlier, and whether one was of the request that the kernel has just refused.
func (e *Engine) readErrors(t *shard.Turn, f *shard.Flow) (earlier int, own bool) {
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
		e.sendError(t, f, &fault)
	}
	return earlier, own
}

// sendError passes an error of a series on. What the error quotes of the request goes to the guest with the guest's own
// identifier; the kernel's own errors quote nothing, and are of the newest request.
func (e *Engine) sendError(t *shard.Turn, f *shard.Flow, fault *hostsock.Error) {
	m, ok := e.icmp.ErrorOf(f, fault)
	if !ok {
		t.DropToGuest(&t.Counters.PingRefused, &f.Key)
		return
	}
	m.Key, m.Len, m.L4 = &f.Key, netpkt.ICMPLen, e.Newest(f)
	if quoted := t.Quote[:min(fault.N, len(t.Quote))]; fault.Origin != unix.SO_EE_ORIGIN_LOCAL && len(quoted) >= netpkt.ICMPLen {
		netpkt.ReplaceIdentifier(quoted, f.Key.GuestPort)
		m.Len, m.L4, m.Payload = fault.N, quoted[:netpkt.ICMPLen], quoted[netpkt.ICMPLen:]
	}
	e.icmp.SendError(t, m)
}
