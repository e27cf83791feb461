// Package netem emulates the link between a guest and its network: rate, delay, jitter, loss, duplicates, reordering and corruption.
//
// A [Link] says how a link is, one [Direction] for each way; [Parse] reads it and [Link.String] writes it. A [Port] is a netbackend.Port in
// front of another one. It keeps the frames that are under way in a store of bounded size, and passes each on when it is due. Frames of
// many segments are cut before, and checksums filled in, so that all of it acts on the frames that a wire would carry. A guest
// without such a link has no Port of this package, and pays nothing.
//
// What a queue pair's two directions keep is its thread's alone. What the queue pairs of a guest share is in [Shared]: when the
// line is free again, and how much waits for it. Time is an argument, and chance is a generator with a seed: what happens to
// frames can be repeated. Nothing is allocated for a frame.
//
// What does not belong here: which guest has which link (package daemon), and when a thread wakes up (package worker).
package netem
