// Package presence knows whether the guest is there: for how long what has gone may come back, and how the flows of a guest that is
// dead end.
//
// What does not belong here: what a flow's end is for its protocol, and whether a driver that begins is the same guest's.
package presence
