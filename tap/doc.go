// Package tap leads a guest's frames to a TAP device of the kernel, with the virtio-net header passed through
// (virtio 1.2 section 5.1.6; Linux Documentation/networking/tuntap.rst): checksums and segmentation that guest and
// kernel leave to each other stay undone on the way, so a frame of 64 KiB costs one system call and one copy.
//
// A [Device] is the TAP device and what was changed for it: it opens one file descriptor a queue pair and gives each to
// a [Port], which is a netbackend.Port. [Open] creates the device or attaches to one that exists, joins it to a bridge,
// and notes what it changed so that [Changes.Undo] can leave the host as it was.
//
// # The way of a frame
//
// To the kernel: one writev of our checked copy of the guest's header, and the guest's own buffers behind it; a frame of
// up to 2 KiB is copied behind our header and goes by one write, which costs the kernel less than two pieces. To the
// guest: one readv into a header of ours, as many receive buffers as the frame is expected to need, and at the end a
// spill buffer. A frame that reaches the spill is longer than expected; it is put together in further receive buffers,
// or dropped and counted, and never delivered short.
//
// # Queues and link
//
// A queue is attached to the device exactly while the receive ring of its pair is started and enabled (TUNSETQUEUE), so
// that the kernel steers no frame to a queue that nobody reads. The device has a carrier while any queue is attached.
// The offloads that the kernel may leave undone (TUNSETOFFLOAD) are those that the guest acknowledged, less those of
// which its receive rings cannot hold the frames.
//
// # Concurrency
//
// A Port belongs to its worker's thread. What the Ports of a device share, attachment, carrier and offloads, is guarded
// by a mutex that is taken when rings change and never for a frame.
//
// What does not belong here: addresses, routes and firewalls, which are the host's; and who may do what is decided by
// the kernel: errors name the right that is missing.
package tap
