package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
)

// maxMemory is when garbage is collected all the same.
const maxMemory = 1 << 30

// Whoever steps through turns holds the main thread.
func init() { runtime.LockOSThread() }

func main() {
	debug.SetGCPercent(-1) // garbage is made between turns only, and collected before them
	debug.SetMemoryLimit(maxMemory)
	t := &failing{}
	err := newPlayer(t).obeyAll(os.Stdin, os.Stdout)
	t.close()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/turns:", err)
		os.Exit(1)
	}
}
