// Package hostconf is what the hosts of a guest's network are told beside addresses, router and name servers: search domains,
// time servers, routes, what to boot, fixed addresses, and any option of DHCP by its number. It reads the command line's form of
// each, checks it, and has the encodings that DHCP, DHCPv6 and router advertisements share.
//
// It does not belong here to build messages, which packages dhcp4, dhcp6 and ndp do, or to give addresses (package lease).
package hostconf
