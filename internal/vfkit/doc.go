// Package vfkit makes a connection of a datagram socket that is bound to a path, as vfkit and gvproxy do: the first datagram that comes
// tells by its sender who is at the other end, and is [Greeting] with vfkit.
//
// [Meet] may be called by whoever has the socket open; what it changes is the socket's, not the descriptor's. It does not wait.
//
// The kernel takes the connection away when something is sent to a front end that has gone. That is the only way to learn of it.
//
// What does not belong here: frames, who makes the socket and its file (package socketfile), and when a front end is met.
package vfkit
