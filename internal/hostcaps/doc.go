// Package hostcaps tells what the kernel of this host can do, and what this process may do on it. It asks the kernel each
// time and keeps nothing.
//
// What does not belong here: what follows from an answer, and how a user is told.
package hostcaps
