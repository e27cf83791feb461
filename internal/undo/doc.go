// Package undo is the list of what was changed on the host and is undone in the end: files that were made, and settings of interfaces.
//
// A [List] has one owner at a time, one goroutine of one process. Whoever makes something adds it, or has its owner add it, and the owner
// undoes it when it is not needed any more, or all of it in the end. The process that opens what a configuration names has the first one, and
// passes it on to the broker, which lives longer (package broker): as JSON with a version, of which each part has a bound. A list that was
// passed on is the same one: it undoes nothing that somebody else has made meanwhile. Files are told by their numbers, and the owner keeps them
// open so that no other file gets those; who passes a list on keeps it until the other one has it.
//
// What does not belong here: why something was made, and when it is undone.
package undo
