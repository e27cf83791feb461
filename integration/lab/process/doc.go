// Package process runs the programs of an integration test: front ends, guests, vring itself. A process ends with the test
// that started it, is ended by its identifier and with all of its children, and what it printed is kept for the report of
// a failure.
//
// A Process may be used by several goroutines.
package process
