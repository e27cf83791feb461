// Package bootcheck boots a small guest with this machine's own QEMU, kernel and processor, and checks its network behind vring: lease,
// streams both ways in which every byte is compared, a forward that is added while the guest runs, queue pairs and interrupts, and the
// guest's driver taken away and bound again.
//
// The guest's only program is vring itself, as the first process of an initramfs, in RunGuest. The host asks it by connections through
// a forward: a line that says what to do, then data. What the guest prints on its console is for its start only.
//
// What does not belong here: what needs no guest (package doctor), and how QEMU's command line is made (package qemurun).
package bootcheck
