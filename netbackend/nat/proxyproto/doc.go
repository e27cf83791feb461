// Package proxyproto reads and writes the headers of the PROXY protocol, versions 1 and 2: what a proxy puts in front of
// a connection's stream to tell from where, and to where, its client has connected.
//
// # Specification
//
// "The PROXY protocol, versions 1 & 2" (haproxy.org, doc/proxy-protocol.txt, of 2020 and later). Readers are strict, as it
// asks: what is not a header in every detail is none. A header is written in one form for each version.
//
// # Concurrency
//
// All functions are pure. Writing does not allocate if there is room.
//
// What does not belong here: sockets, how long a header is waited for, and what is believed of it.
package proxyproto
