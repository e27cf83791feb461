// Package ceiling is a vhost-user device that moves the indexes of its rings and looks at no frame: what it takes from the
// guest it gives back unread, and the guest's receive buffers come back as if a frame had been written to them.
//
// It is no back end, and may never be one: it checks nothing. It tells what a front end can do at best, when the other
// side costs as good as nothing (split rings, virtio 1.2 section 2.7). What is measured of real back ends is to be seen
// against that.
//
// A [Device] polls on a thread of its own while rings run. Its methods are those of vhostuser.Device, for one goroutine.
package ceiling
