// Package qemurun rewrites a command line of QEMU, so that vring is the guest's network: it adds shared memory, the socket, the network
// and the card, or puts them in the place of QEMU's user network, whose options it turns into those of "vring nat".
//
// It reads the command line as QEMU does (qemu-system(1), "Invocation"): which options have a value, lists of properties in which a comma
// is doubled, and JSON. What it does not have to understand, it leaves as it is.
//
// What does not belong here: starting QEMU or vring, and words that depend on QEMU's version (package qemuopt).
package qemurun
