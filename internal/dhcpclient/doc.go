// Package dhcpclient gets an IPv4 lease for an interface that has no address yet (RFC 2131). The guests that vring boots itself use it, to
// check the network and in tests.
//
// What does not belong here: what is done with the lease, and renewing it.
package dhcpclient
