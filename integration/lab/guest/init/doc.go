// Init is the first and only program of the test guest: it mounts what Linux needs, loads the virtio drivers, and then
// does what the test on the host asks for over the console (see package proto). With "vring.shell" on the kernel command
// line it configures the network and leaves the user at a shell instead.
//
// It is linked statically and needs nothing else in the guest but the kernel modules; the shell needs busybox. Each
// command runs in a goroutine of its own, or, with "spawn", in a process that can be killed.
package main
