// Package source keeps the source addresses of connected sockets right when the host's addresses or routes change.
//
// What does not belong here: which flows there are, and how the news of the host is read (package route).
package source
