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

// Where connections stand, as users are told: their state, and which ends of an open one have closed it.
const (
	standsConnecting  shard.Standing = iota + 1 // to the target; the guest waits
	standsAnswered                              // the guest's SYN was, and its ACK is awaited
	standsUnannounced                           // its PROXY header is awaited
	standsCalling                               // the guest has not answered our SYN yet
	standsResetting                             // the guest is to be told
	standsGuestClosed                           // the host may still send
	standsHostClosed                            // the guest may still send
	standsClosing                               // both have closed it, and one has not acknowledged that yet
	standsOpen
	standings
)

// names returns what users read of each standing.
func names() [standings]string {
	return [standings]string{
		standsConnecting: "connecting", standsAnswered: "answered", standsUnannounced: "unannounced", standsCalling: "calling",
		standsResetting: "resetting", standsGuestClosed: "guest-closed", standsHostClosed: "host-closed", standsClosing: "closing", standsOpen: "open",
	}
}

// StateOf says in a word where a connection stands.
func (e *Engine) StateOf(f *shard.Flow) string { return stateName(f.State, e.conn(f).tcp.flags) }

// StateNames returns all that stateName returns. The one of number i is where connections stand whose shard.Standing is i+1.
func StateNames() []string {
	all := names()
	return all[1:]
}

// stateName says in a word what a state and flags of TCP mean.
func stateName(state shard.State, flags flags) string { return names()[standingOf(state, flags)] }

// Begun takes note of where a new connection stands.
func (e *Engine) Begun(f *shard.Flow) { e.shard.Flows.Stand(f, standingOf(f.State, 0)) }

// stand takes note of where a connection stands from now on.
func (e *Engine) stand(f conn) { e.shard.Flows.Stand(f.Flow, standingOf(f.State, f.tcp.flags)) }

// standingOf returns where a connection with a state and flags stands.
func standingOf(state shard.State, flags flags) shard.Standing {
	switch state {
	case stateConnecting:
		return standsConnecting
	case stateSynRcvd:
		return standsAnswered
	case stateAwaitProxy:
		return standsUnannounced
	case stateSynSent:
		return standsCalling
	case stateReset:
		return standsResetting
	}
	switch flags & (guestFIN | finSent) {
	case guestFIN:
		return standsGuestClosed
	case finSent:
		return standsHostClosed
	case guestFIN | finSent:
		return standsClosing
	}
	return standsOpen
}
