// Package framesocket serves front ends that pass frames over a unix socket, instead of sharing a guest's memory: QEMU's -netdev stream,
// User-mode Linux, and whoever speaks to passt, gvproxy or slirp4netns.
//
// A [Server] is to them what vhostuser.Server is to others: it meets one front end after the other, and drives the same device. It has
// the guest's rings in memory of its own and plays the part of the guest's driver, without offloads. A [driver] moves frames between the
// rings and the socket, on the device's thread.
//
// # Framing
//
// A [Stream] has frames with their length before them, 32 bits with the most significant first. [Packets] (SOCK_SEQPACKET) and
// [Datagrams] are one frame each. A front end that sends datagrams may begin with one of the four bytes "VFKT", which is no frame. A datagram
// socket at a path is connected to the front end that sends first (package vfkit), for as long as that one takes frames.
//
// # The way of a frame
//
// What comes from a stream is read into one buffer, many frames at once, and each frame is made available where it lies: a chain is a
// header of zeros, and the frame. The Port's frames lie in the receive ring's buffers, and leave from there by one call; the length of a
// frame in a stream is written into the end of its virtio-net header.
//
// # Bounds
//
// Nothing of a guest is kept but in its rings, whose memory is made once. A socket that takes nothing leaves the receive ring without
// buffers, which the Port sees; a Port that takes nothing leaves the transmit ring full, and then the socket is not read. A frame that
// cannot be in step with the others ends the connection: it is longer than [MaxFrame].
//
// What does not belong here: what frames mean, rings and their memory (packages virtqueue/driver and guestmem), and threads.
package framesocket
