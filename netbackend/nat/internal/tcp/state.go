package tcp

import (
	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// IsUnderWay tells whether a segment that begins with seq was sent to the guest, which has not acknowledged it.
func (e *Engine) IsUnderWay(of *shard.Flow, seq seqnum.Value) bool {
	f := e.conn(of)
	switch f.State {
	case stateSynSent, stateSynRcvd, stateOpen:
		return seq.AtLeast(f.tcp.sndUna) && seq.Before(f.tcp.sndMax)
	}
	return false
}

// StateOf says in a word where a connection stands.
func (e *Engine) StateOf(f *shard.Flow) string { return stateName(f.State, e.conn(f).tcp.flags) }

// StateNames returns all that stateName returns.
func StateNames() []string {
	return []string{
		"connecting", "answered", "unannounced", "calling", "resetting", "guest-closed", "host-closed", "closing", "open",
	}
}

// stateName says in a word what a state and flags of TCP mean.
func stateName(state shard.State, flags flags) string {
	switch state {
	case stateConnecting:
		return "connecting" // to the target; the guest waits
	case stateSynRcvd:
		return "answered" // the guest's SYN was, and its ACK is awaited
	case stateAwaitProxy:
		return "unannounced" // its PROXY header is awaited
	case stateSynSent:
		return "calling" // the guest has not answered our SYN yet
	case stateReset:
		return "resetting" // the guest is to be told
	}
	switch flags & (guestFIN | finSent) {
	case guestFIN:
		return "guest-closed" // the host may still send
	case finSent:
		return "host-closed" // the guest may still send
	case guestFIN | finSent:
		return "closing"
	}
	return "open"
}
