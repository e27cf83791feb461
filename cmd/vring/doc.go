// Command vring is a vhost-user back end for virtio-net: it serves a virtual machine's network, by a NAT engine of its
// own or by a stub for measurements.
//
// This package turns flags into a configuration (daemon.Config), and prints what happens to the daemon that serves it. How
// guests are served is decided in package daemon and below. Everything is passed down explicitly; there are no package-level variables.
//
// The conventions are those of QEMU's back-end programs (docs/interop/vhost-user.rst): --socket-path, --fd,
// --print-capabilities, no daemonizing, SIGTERM ends the process at once.
package main
