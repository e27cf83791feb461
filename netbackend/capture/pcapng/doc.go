// Package pcapng writes the file format of that name (draft-ietf-opsawg-pcapng), of which Wireshark and tcpdump read captures:
// blocks, appended to a buffer. [Scanner] takes a stream apart into blocks again.
//
// It is for Ethernet frames with times in nanoseconds, little-endian. Writing a packet allocates nothing if the buffer has room.
package pcapng
