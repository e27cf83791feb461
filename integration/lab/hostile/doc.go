// Package hostile is a front end with a guest of its own that needs no machine, for tests that are to do what no QEMU
// does: it can send frames as fast as the rings go, ruin its memory and its descriptors under them, and say nonsense.
//
// A [FrontEnd] belongs to one goroutine. What cannot fail but for a lack of memory or descriptors panics, as in package
// vqtest.
package hostile
