// Package dhcp answers the guest's messages of DHCP and DHCPv6, and has the addresses that its hosts were promised.
//
// What does not belong here: the protocols, which packages services/dhcp4 and services/dhcp6 know.
package dhcp
