//go:build amd64 || arm64

package ring

// Pause tells the processor that the caller looks at memory in a loop: it then leaves more to its neighbour, and does not
// run ahead on a value that is about to change.
func Pause()
