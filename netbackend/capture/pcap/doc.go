// Package pcap writes the older file format of captures (draft-ietf-opsawg-pcap), which every program reads that reads captures: a header, then
// packets, appended to a buffer.
//
// It is for Ethernet frames with times in microseconds, little-endian. There is one interface, and no place for comments or for what was
// missed: package pcapng has those. Appending a packet allocates nothing if the buffer has room.
package pcap
