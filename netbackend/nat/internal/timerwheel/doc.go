// Package timerwheel says when the flows of a table are due (package flowtable), by their indices: at 4 ms precisely, and with a few
// operations for each deadline that is set.
//
// Each queue pair has a [Wheel]. An index stands in one of them at most, that of its owner, who alone may call a method for it.
//
// What does not belong here: what a deadline is for, and what the time is.
package timerwheel
