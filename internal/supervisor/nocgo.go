//go:build !cgo

package supervisor

// withoutCause is why this build of the program cannot have namespaces of its own; "" is that it can.
const withoutCause = ""
