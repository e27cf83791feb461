// Package program is what the benchmarks' commands have in common as programs: Ctrl-C ends the work, and an error is printed.
package program
