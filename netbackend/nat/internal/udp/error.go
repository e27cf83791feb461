package udp

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/listeners"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// readErrors tells the guest what became of datagrams of a socket, which is f's own, or common to several flows and locked:
// else another pair could take what the kernel says of a datagram that this one has just failed to send, which is f's. One of
// the two may be nil. It returns how many errors were of datagrams sent earlier, and whether one was of that datagram.
func (e *Engine) readErrors(t *shard.Turn, fd int32, f *shard.Flow, common *listeners.SharedSocket) (earlier int, own bool) {
	for range shard.ErrorBurst {
		fault, ok := t.Msg.ReceiveError(fd, t.Quote[:])
		if !ok {
			break
		}
		from := f
		if fault.Origin == unix.SO_EE_ORIGIN_LOCAL {
			own = true // the kernel names no port then
		} else {
			earlier++
			from = e.sender(f, common, &fault.To)
		}
		if from != nil {
			e.tellError(t, from, &fault)
		}
	}
	return earlier, own
}

// sender returns the flow whose datagram went to a caller, nil if there is none any more.
func (e *Engine) sender(f *shard.Flow, common *listeners.SharedSocket, to *hostsock.Caller) *shard.Flow {
	if common == nil {
		return f
	}
	f, _ = e.callerFlow(common, to)
	return f
}

// tellError passes an error on, as the message that told the host if the guest speaks the same version of IP, and in the
// name of who sent it.
func (e *Engine) tellError(t *shard.Turn, f *shard.Flow, fault *hostsock.Error) {
	m, ok := e.icmp.ErrorOf(f, fault)
	if !ok {
		return
	}
	m.Key, m.Len, m.L4, m.Payload = &f.Key, netpkt.UDPLen+fault.N, e.header(f), t.Quote[:min(fault.N, len(t.Quote))]
	e.icmp.SendError(t, m)
}

// header returns the header of a flow's datagrams without payload, for quotes. It is valid until the next call.
func (e *Engine) header(f *shard.Flow) []byte {
	netpkt.PutUDP(e.quoted[:], f.Key.GuestPort, f.Key.RemotePort, netpkt.UDPLen)
	return e.quoted[:]
}
