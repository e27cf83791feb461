// Package qemuopt has the words of QEMU's command line that vring prints, and that its tests use: which of them fit a
// version of QEMU, which version a program is, and a whole command for a guest.
//
// What differs between versions, and how it is known:
//
//   - Reconnecting of a socket (-chardev socket): reconnect=SECONDS up to 9.1, reconnect-ms=MILLISECONDS from 9.2 on,
//     which also takes the old word until it is removed (QEMU's "deprecated" and "removed features" pages). 7.2 refuses
//     the new word, 11.1 the old one.
//   - MSI-X without KVM: QEMU 7.2 crashes when a driver starts a vhost-user device, unless vectors=0 takes MSI-X away; 11.1
//     does not. No version between them was tried, so the word is left out from 11 on only: it works with every version
//     and costs an emulated guest next to nothing.
//
// Which version a program is stands in its file, as the text that it prints for --version (tried: Debian's 7.2 and 11.1).
//
// What does not belong here: running QEMU, and options that no vhost-user device needs.
package qemuopt
