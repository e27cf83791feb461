// Package adb compares two ways to a service in a guest: `adb forward` through the real adb server and an adbd in the
// guest, and a port that vring forwards itself. Both end in the same User-mode Linux guest, behind the same vring.
//
//	client ── adb server ── vring ── guest: adbd ── service      "adb"
//	client ──────────────── vring ── guest: service              "vring"
//
//	cd bench
//	go run . adb                            three rounds
//	go run . adb --rounds 1 --guests 2      does it work at all?
//
// Each round boots a guest and measures both ways in turns: throughput, requests, connections, and what a client learns, and
// when, of each kind of end. Then it boots four guests, and eight, which share the adb server, and measures what one of them
// has of it that another is busy, or hangs. A table goes to standard output, progress to standard error, and JSON, Markdown
// and a chart into a folder. docs/adb.md explains the figures.
//
// The adb server is one of the benchmark's own: another port, another home, ended by its process. All traffic is on the
// loopback of this machine. The exit status tells whether everything could be measured, never who was faster.
package adb
