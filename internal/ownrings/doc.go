// Package ownrings is a guest's rings without a guest: [Rings] are a queue pair in memory of this process, with the receive buffers and the place
// for input that who feeds a device without a front end needs.
//
// Package framesocket plays a guest's driver with them for front ends that pass frames by a socket, and package switchuplink for what is behind a
// switch's uplink. What is sent to the device lies in the input, and a chain is a virtio-net header of zeros and the frame. What the device
// sends lies in receive buffers, each frame behind its header, and leaves from there.
//
// Nothing is kept but in the rings, whose memory is made once. Not safe for concurrent use: the rings are the device's thread's while it has them.
//
// What does not belong here: sockets, threads, and what frames mean.
package ownrings
