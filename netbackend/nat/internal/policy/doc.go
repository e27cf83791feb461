// Package policy says which destinations a guest may reach, and why it may not reach the others.
//
// It is asked with plain values: a protocol, an address and a port. It knows neither flows nor packets, nor what the guest or the
// user is told of a denial. The order in which it decides is told in the documentation of package nat.
package policy
