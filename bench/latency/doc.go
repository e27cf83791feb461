// Package latency measures the round trip of one frame through a back end that sends it back: from the driver's kick to
// the interrupt for the frame in its receive ring, with the driver asleep between. Behind the same front end, of
// package vhostuser/frontend, are in turn "vring stub --mode echo" without polling and with each bound of polling that
// is asked for, and DPDK's vhost driver, which polls for ever.
//
//	cd bench
//	go run . latency
//	go run . latency --frames 100000 --gap 1ms --poll-us 0,10,20,50,100,200
//
// What comes back is compared with what was sent; a frame that is lost, late or changed ends the run with an error. Progress
// goes to standard error, a table to standard output, and the figures into a folder.
package latency
