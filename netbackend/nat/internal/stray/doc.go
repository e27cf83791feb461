// Package stray deals with packets of the guest that lead nowhere: of protocols that no socket carries, to groups and to everybody.
// It tells the user of them, once.
//
// What does not belong here: what the policy is against (package icmperr), and groups that lead somewhere (package groups).
package stray
