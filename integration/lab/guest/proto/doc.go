// Package proto is what the guest's /init and the test on the host say to each other over the guest's console, and the
// test data that both can make.
//
// A request is one line of fields: an identifier, a command, its arguments. Each command runs on its own, so several may
// be under way. Every line of an answer begins with Marker, so that it is told from kernel messages:
//
//	host:   7 tcp-dial 10.0.2.2:5201 67108864 1
//	guest:  @vring 7 ok {"bytes":67108864,"sha256":"..."}
//
// A command may report events before it ends with ok or error. The guest announces itself with an event of request 0.
//
// The package is pure: no sockets, no goroutines.
package proto
