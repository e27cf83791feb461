// Package socketfile looks after the files of unix sockets that a process listens on: a socket that a dead process left is
// replaced, one on which somebody listens and any other file is not, and what is removed in the end is what was made.
//
// It makes no sockets: who does calls [Clear] before and [Made] after. It has no state of its own, and may be used by several
// goroutines.
package socketfile
