package main

import (
	"fmt"
	"os"
	"slices"
	"testing"
)

// failing is a testing.TB outside of a test, with the methods that package porttest uses. What goes wrong ends the program.
type failing struct {
	testing.TB
	cleanups []func()
}

func (*failing) Helper() {}

func (f *failing) Cleanup(cleanup func()) { f.cleanups = append(f.cleanups, cleanup) }

func (f *failing) Fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench/turns: "+format+"\n", args...)
	os.Exit(1)
}

func (f *failing) Errorf(format string, args ...any) { f.Fatalf(format, args...) }

// close cleans up, the last first.
func (f *failing) close() {
	for _, cleanup := range slices.Backward(f.cleanups) {
		cleanup()
	}
	f.cleanups = nil
}
