// Package guestnet knows the network that a guest is in, and the addresses that the engine has there.
//
// It says whose an address is within that network; whether the guest may use one beyond it is the policy's to say. Values do not
// change once they are made.
package guestnet
