// Package porttest is a guest without a machine: it drives a netbackend.Port through real rings, on a clock of the
// test's own, so that a test says what the guest sends and when, and sees every frame that the guest would see.
//
// A [Guest] plays two parts. Towards the Port it is the worker: it hands over chains, events of the Port's own sockets
// (in an epoll set of its own) and the time, and, like a worker, calls Turn for a cause only. Behind the rings it is the
// driver and the guest's kernel: it posts receive buffers, checks each frame that arrives (virtio-net header against the
// acknowledged features, checksums, lengths, number of buffers) and hands it to a small TCP, [TCP], that can also send
// any segment there is.
//
// A mistake of the Port that no test expects, such as a wrong checksum, fails the test by itself.
//
// Everything here belongs to the test's goroutine; host sockets may be used by others. The package is for tests and
// benchmarks only.
//
// What goes to an IPv6 address leaves as IPv6, from [Guest.IP6].
package porttest
