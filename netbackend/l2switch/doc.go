// Package l2switch is an Ethernet switch between the guests of one process: a [Switch] decides by MAC address where a
// frame goes (IEEE 802.1D, 802.1Q), and each guest is connected to it by a [Port], which is a netbackend.Port.
//
// # The way of a frame
//
// The sender's thread checks a copy of the frame's headers, learns its source, finds its destination, and copies it from
// the guest's buffers into the inbox of the receiving Port. The receiver's thread copies it from there into the guest's
// receive ring. So each ring is touched by its own thread alone, and a frame is copied twice; docs/design.md says what the
// second copy costs and what would be needed to do without.
//
// An inbox is memory in slots of 2 KiB. The sender takes as many as its batch needs, copies, and hands them over: two
// short locks for a batch and destination, none for a frame, and none is held while guest memory is touched. The receiver's
// thread is woken by an eventfd if it has found its inbox empty before.
//
// # Waiting
//
// If an inbox has no room, the frames stay in the sender's own ring for a few milliseconds, and are dropped after that. A
// receiver that takes nothing is waited for once, until it takes something again. While frames for others wait behind, a
// sender waits for a tenth of the time at most. A sender can fill as much of an inbox as it leaves free for others.
// Frames to many receivers never wait.
//
// # Offloads
//
// The virtio-net header travels with the frame: a frame of 64 KiB passes as one to a guest that takes it so. For others the
// sender's thread cuts it and fills in checksums. All offloads are offered to each guest, whatever the others take.
//
// # Concurrency
//
// A Port belongs to its worker's thread, but for its inbox and what it publishes of itself, which are guarded by a lock and
// by atomics. The table of addresses is read without a lock; who changes it holds one. All workers must have the same clock.
//
// What does not belong here: which addresses of IP guests have, and anything beyond this process.
package l2switch
