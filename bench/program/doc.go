// Package program is the frame of the benchmarks' program: it finds the command that the arguments name, ends it with
// Ctrl-C, and prints its error. What several commands read from their arguments in the same way is here too.
package program
