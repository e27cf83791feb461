// Package ping passes echo requests of the guest on, by ping sockets of the host (icmp(7)), and the replies back.
//
// What does not belong here: echo requests to the engine's own addresses.
package ping
