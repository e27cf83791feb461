// Package nat compares `vring nat`, one or more builds of it, with its peers that are installed and with the host's own
// loopback, side by side in one run, with the same guests and the same traffic.
//
//	cd bench
//	go run . nat                                           this source tree and all peers, all usual tests, MTU 1500
//	go run . nat --quick                                   the same, one short round: does it work at all?
//	go run . nat --tests stream --guests uml --mtu 1500,9000,65520
//	go run . nat --no-peers --vring old=../bin/old --vring new=../bin/new     two builds against each other
//	go run . nat --no-peers --tests count --rounds 1 --length 10m       correctness at speed, every byte checked
//	go run . nat --no-peers --tests digest --rounds 1 --volume 5        the same for 5 GiB each way, by SHA-256
//
// All subjects are started first; then they take turns: in each round each runs every test in each direction, in every other
// round in reverse order. A table goes to standard output, progress to standard error, and everything that was measured into
// a folder, as JSON, Markdown and SVG, after every round: what is interrupted keeps the rounds before.
//
// The exit status tells whether vring carried everything right, never whether it was fast. A peer that is not installed, or
// that fails, is a row that says so.
package nat
