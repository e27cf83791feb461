// Package udp passes datagrams on: associations between a port of the guest and one remote end, and mappings, by which a port of the guest
// has one port of the host (RFC 768, RFC 4787).
//
// An association's state is the package's own. What others may know of one they ask an [Engine].
//
// What does not belong here: what services answer (they are called by [Hooks]), TCP, and which frames are datagrams.
package udp
