// Package uml runs User-mode Linux as the front end of a test: a Linux kernel that is an ordinary process, with the real
// virtio_net driver and a vhost-user front end of its own (virtio_uml). It needs no emulator, so it is the guest for
// throughput.
//
// It does not end on SIGTERM and may hang when its back end goes away; Machine.Kill ends it. Kernel 6.1 saves the
// processor's registers in an area that is too small for processors with AMX, and panics: it runs under a seccomp filter
// that makes it fall back to the older FXSAVE. A Machine may be used by several goroutines.
package uml
