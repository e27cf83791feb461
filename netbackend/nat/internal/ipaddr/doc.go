// Package ipaddr has the addresses of flows: IP addresses and endpoints of either version in one form of fixed size that holds
// no pointer, so that the garbage collector has nothing to scan in a table of them.
//
// It knows neither packets nor flows nor what an address means to the policy.
package ipaddr
