// Package labrun keeps the programs of a lab running: a vring that serves the lab's network, and the programs that are its guests.
//
// A lab has a directory of its own ([Place]), which belongs to one keeper at a time: a process that [Keep] is called in. It starts the
// programs, writes what they print to files that are bounded, notes how they end, starts them again where the lab says so, and ends them.
// No program is left without its keeper: the kernel ends them with it (PR_SET_PDEATHSIG). Commands ask the keeper by a [Client]: to have a
// lab running ([Plan]), how it is ([Status]), and to take it down, after which nothing is left of the directory.
//
// Signals are sent by descriptors of processes (pidfd_open(2)), which package os has, so none meets another process with the same number.
//
// What does not belong here: what a lab's file means, what the network is, what is printed.
package labrun
