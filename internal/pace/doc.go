// Package pace slows down front ends that come and go: QEMU alone, if it asks for what it cannot get, connects more than a thousand times a
// second.
package pace
