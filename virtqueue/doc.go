// Package virtqueue serves the device side of a split virtqueue.
package virtqueue
