// Package inbound takes connections that come by forwards, or that somebody asks for, and gives the forwards of both protocols their
// turns.
//
// What does not belong here: what becomes of a connection or datagram then (packages tcp and udp).
package inbound
