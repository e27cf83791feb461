//go:build amd64 || arm64

package guestmem

import "unsafe"

// Prefetch asks the processor for the cache line that is off bytes into each piece of run, to be read soon. The processor
// then has many of them on their way at a time, more than a loop lets it see ahead. It is a hint: nothing faults, whatever
// is there, so it needs no [Guard].
func Prefetch(run []Iovec, off int) { prefetchRead(unsafe.SliceData(run), len(run), off) }

// PrefetchWrite is Prefetch for the first line of each piece, to be written soon.
func PrefetchWrite(run []Iovec) { prefetchWrite(unsafe.SliceData(run), len(run)) }

// The loops are in assembly: Go has no way to say it, and a call for each line would cost what it gains. They count on
// Iovec being two words, the address first.

//go:noescape
func prefetchRead(run *Iovec, n, off int)

//go:noescape
func prefetchWrite(run *Iovec, n int)
