// Bench measures vring and what it is compared with:
//
//	cd bench
//	go run . --help
//	go run . nat --rounds 3
//
// Each command is a package of its own, which explains what it measures: go doc ./nat.
package main
