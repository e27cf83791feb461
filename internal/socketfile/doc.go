// Package socketfile looks after the files of unix sockets that a process listens on: a socket that a dead process left is
// replaced, one on which somebody listens and any other file is not, and what is removed in the end is what was made.
//
// [Replace] makes a socket that has no more rights than it should at any time, in the place of one that is dead. Of two
// processes that do so at once one fails. The package has no state of its own, and may be used by several goroutines. The
// umask is only read.
package socketfile
