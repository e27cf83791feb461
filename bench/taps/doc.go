// Package taps compares vring tap with others that lead a guest's frames to the kernel's network, in one run and with
// the same front end, by rate and by the processor time of the back end:
//
//	frames    DPDK's virtio-user sends or receives frames of 64 and 1500 bytes: vring beside testpmd's net_vhost and net_tap
//	qemu      a TCP stream of a guest under QEMU (TCG): vring beside QEMU's own -netdev tap
//	uml       a TCP stream of a User-mode Linux guest: vring beside two namespaces that a veth pair connects
//	pair      a TCP stream from one User-mode Linux guest to another: vring switch beside two of vring tap on a bridge
//
//	cd bench
//	go run . taps
//	go run . taps --only frames,uml --rounds 3 --vring old=../bin/old --vring new=../bin/new
//
// Every turn is set up anew, in network namespaces of its own, and in every other round the subjects take turns in reverse
// order. The other end of a stream is in the namespace of the TAP device; both ends are iperf3. It needs root, for the
// namespaces.
//
// # What counts as the back end
//
// The processes of vring and of testpmd. In QEMU with a TAP device of its own it is the main loop, a thread that moves all
// frames there. With vring the main loop still passes on interrupts, since the emulated processor cannot take them from an
// eventfd: that time is in a column of its own for both.
//
// A poll-mode back end uses all of its processor whether there are frames or not; its time per frame means something only
// when it is the limit. So the load is more than any of them can take.
//
// The exit status tells whether the frames and streams were right, never whether they were fast.
package taps
