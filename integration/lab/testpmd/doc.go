// Package testpmd runs DPDK's testpmd, as the front end (its virtio-user driver) or as the back end (its vhost driver) of a
// test. It forwards frames on a processor of its own, polls and never sleeps, and is asked for its counters over its
// prompt.
//
// A Testpmd is for one goroutine.
package testpmd
