// Package vnet holds what virtio-net (virtio 1.2 section 5.1) means: feature bits, the header before each frame, and the
// arithmetic of checksum and segmentation offload. Everything is a pure function on copies; nothing here touches guest
// memory, allocates per frame, or keeps state.
//
// What does not belong here: ring memory (package virtqueue) and protocol headers (packages nat and services).
package vnet
