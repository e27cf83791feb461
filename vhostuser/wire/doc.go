// Package wire is the codec of vhost-user messages, as QEMU's docs/interop/vhost-user.rst defines them: a header of
// three 32-bit words (request, flags, size of the payload), and a payload of at most a few hundred bytes. All numbers
// are in host byte order; this package serves little-endian hosts.
//
// Decoding checks everything that can be told from one message alone: sizes, ranges, the number of file descriptors.
// What depends on the session (ring indices, features on offer, overlapping memory) is checked by its user.
//
// Everything here is a pure function of its arguments; nothing owns a descriptor or keeps a buffer.
//
// What does not belong here: reading from sockets, file descriptors themselves, and what a message does.
package wire
