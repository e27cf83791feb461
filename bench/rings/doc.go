// Package rings measures frames per second through virtqueues: DPDK's testpmd as the front end (virtio-user), and
// behind it in turn DPDK's own vhost driver, "vring stub", and a device that only moves the rings' indexes, which is
// the ceiling of what the front end can do.
//
//	cd bench
//	go run . rings                                   all, five rounds, a quarter of an hour
//	go run . rings --quick                           64-byte frames in one set-up, three rounds, a minute
//	go run . rings --full --rounds 3 --length 300ms  every combination of 24, three rounds, a quarter of an hour
//	go run . rings --quick --rounds 1 --length 10s   does a back end collect garbage at full rate?
//	go run . rings --vring old=../bin/old --vring new=../bin/new --mode echo
//
// Each side has one processor: the front end 0, the back end 1. Everything is started anew for each sample. In each round
// every subject has a turn, in every other round in reverse order. With 2 MiB pages the benchmark sets them aside itself,
// which needs root, and gives them back; without the right those rows say so.
//
// A table goes to standard output, progress to standard error, and everything that was measured into a folder, as JSON,
// Markdown and SVG. The exit status tells whether all subjects worked, never whether they were fast.
package rings
