// Package hostcaps tells what this process may do on this host. It asks the kernel each time and keeps nothing.
//
// What does not belong here: what follows from an answer, and how a user is told.
package hostcaps
