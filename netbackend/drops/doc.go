// Package drops keeps what was dropped last, and why, for whoever wants to know.
//
// A [Log] belongs to whoever drops: one thread, which tells it of each drop after having counted it. It keeps some of a second and numbers the others, so a
// flood of what is dropped costs an addition each. Anybody may read it at any time: the thread waits for no reader, and what it drops while somebody reads is
// numbered, too.
//
// The reason of a drop is the name of the counter that has counted it: a promise, see package counting.
//
// What does not belong here: why something is dropped, and counting it.
package drops
