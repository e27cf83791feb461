// Package talk is conversations over a stream, of which each end can tell on its own whether it went as it should: the
// caller sends a [Script], which says who sends how much and when, and who resets. What is sent is known to both
// (proto.Pattern), and each end reports the SHA-256 of what it got.
//
// There are conversations with urgent bytes as well ([Echo]), of which each end tells what it heard of the other one.
//
// The host and its guests use it, so it knows neither; the caller of a function owns the goroutine, and a limit in time
// ends what hangs.
package talk
