//go:build cgo

package supervisor

// withoutCause is why this build of the program cannot have namespaces of its own: package psx, which gives up rights on all
// threads, finds the threads of a C library in /proc. That has the numbers of the host's processes, and is not in an empty root.
const withoutCause = "vring was built with cgo; CGO_ENABLED=0 go build makes one that can have its own"
