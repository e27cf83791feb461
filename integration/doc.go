// Package integration tests vring with the front ends that people run: QEMU with a Linux guest, User-mode Linux, and
// DPDK's testpmd. What is needed for it is installed by install.sh; a tool that is missing fails a test.
//
// The tests run the vring program itself. Packages below this one start the front ends and talk to the guests; they are
// used by the demonstration and the benchmarks too.
//
// All traffic stays on the loopback interface. Limits in time only end what hangs: they are ten times the expected time
// and more.
package integration
