package shard

import (
	"github.com/vringnet/vring/netbackend/nat/stats"
)

// Absence is what has gone.
type Absence uint8

const (
	NothingGone  Absence = iota
	FrontEndGone         // it may come back with the same guest
	DriverGone           // it has reset its device, and may begin anew
)

// Cause is why connections end of a guest that has gone so.
func (a Absence) Cause() stats.CloseReason {
	if a == DriverGone {
		return stats.EndDriverGone
	}
	return stats.EndGuestGone
}

// HasGuest tells whether there is a guest to call. One whose driver has just reset its device may be back in a moment.
func (s *Shard) HasGuest() bool {
	return s.Connected && (!s.DriverReset || s.Gone == DriverGone || s.OthersRun())
}
