// Package errand is the service that bench/adb reaches in two ways, and its client: both ends of everything that is measured.
//
// A connection begins with an order: one byte for what is to be done and eight for a number, big-endian. Unlike the runs of
// package traffic no errand needs a half close, which the chain through adb cannot carry, unless that is what is asked.
//
// A Service serves any number of clients, each in a goroutine of its own.
package errand
