// Package worker runs the data path of one device: for each queue pair one OS thread that owns the pair's two rings,
// one epoll set, and one netbackend.Port.
//
// A turn of the loop collects what happened (kicks of the guest, readiness of the Port's sockets, commands from the
// control plane), hands the guest's frames to the Port, returns finished chains, and interrupts the guest at most once
// a ring. Between turns, and only there, a thread obeys its mailbox: rings start and stop, guest memory is replaced.
// With nothing to do it sleeps in epoll_wait; notifications of a ring are asked for only while it sleeps (virtio 1.2
// section 2.7.7 and 2.7.10) and only if they could change anything.
//
// # Concurrency
//
// [Device] is the control side: its methods may be called from one goroutine at a time (the vhost-user session), each
// returns when it has taken effect, or after [ReleaseTimeout] with [ErrCondemned]. A thread that does not answer in
// time is never taken its memory away: the device is condemned, and Device.Reset tells when the thread has come back.
// The thread lives as long as the device, with no ring running it still serves the Port's sockets and timers.
//
// # Faults
//
// A turn runs under guestmem.Guard. If guest memory goes away under it (a truncated file), both rings are stopped
// where they are, VRING_ERR is signalled and Device.Failed tells the session. A ring that its driver has broken stops
// alone, VRING_ERR is signalled, and the session goes on.
//
// What does not belong here: what frames mean (the Port), the vhost-user protocol (package vhostuser; its Device
// interface is satisfied here without importing it), and logging.
package worker
