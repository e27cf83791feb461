// Package vqtest is the other side of package virtqueue: guest memory, a driver that keeps the rules, chains that break
// them, and a reference decoder of chains that is slow and obviously right. It is for tests and benchmarks only.
//
// Guest memory is either Go memory, which the race detector sees, or a memfd, which can be handed to another process or
// cut short. What goes wrong in setting up is a panic: there is nobody to handle an error of a test's own making.
//
// A [Memory] and a [Driver] belong to one goroutine. The device may run in another one: the driver uses the same atomic
// accesses as a real one.
package vqtest
