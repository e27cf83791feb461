// Package labfile reads the file of a lab: a network of guests, with the programs that are the guests.
//
// The language is that of package configfile, with a few keys more below guests: what a guest's program is, and whether it is started again.
// A lab is a configuration of vring serve ([Lab.Config]) and programs beside it ([Guest]).
//
// What does not belong here: starting anything, what QEMU's options mean (package qemurun).
package labfile
