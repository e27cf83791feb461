// Throughput measures TCP between a User-mode Linux guest and the host, both ways, behind one or more builds of vring and
// behind the peers that are installed, side by side with the host's own loopback.
//
//	go run ./bench/throughput                                      this source tree, MTU 1500
//	go run ./bench/throughput --mtu 1500,9000,65520
//	go run ./bench/throughput --vring old=bin/old --vring new=bin/new    two builds against each other
//
// All subjects are started first; then they take turns: in each round each sends one stream in each direction, in every
// other round in reverse order. A table goes to standard output, progress to standard error, and everything that was
// measured into a folder, as JSON, Markdown and SVG.
//
// The exit status tells whether the streams were right, never whether they were fast: a stream that breaks or loses bytes
// makes it 1, what is not installed does not.
package main
