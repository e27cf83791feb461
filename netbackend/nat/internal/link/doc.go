// Package link finds neighbours on the guest's link, by ARP (RFC 826) and neighbour discovery (RFC 4861), and lets them find the engine.
//
// What does not belong here: where a host of the guest is remembered (package hosts), and the form of messages, which packages
// services/arp and services/ndp know.
package link
