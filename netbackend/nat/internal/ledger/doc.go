// Package ledger keeps, for each rule of the policy, what the guest has begun by it, was denied by it and has passed, and tells the audit
// log of each such thing. It is written to when a flow begins and when it ends, never in between.
//
// A [Keeper] is of a queue pair, a [Guest] of all pairs of a guest. What is counted for a rule outlives a change of the policy if the
// rule's text stays the same.
//
// What does not belong here: what the policy decides (package policy), what the user's log is told of a denial (package icmperr), who
// reads what is recorded (package audit).
package ledger
