// Package terminal runs a program in a pseudo-terminal, and reads from its screen what a person would.
//
// What does not belong here: what the program is.
package terminal
