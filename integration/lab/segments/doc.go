// Package segments sends runs of datagrams, each run by one system call, and counts what comes back. It is for both ends, the
// guest's program and the tests on the host: a network card with USO carries a run as one frame.
package segments
