// Package vhostuser is the control plane of a vhost-user back end for virtio-net: it accepts front ends on a unix
// socket, negotiates features, owns every file descriptor and memory mapping that a front end passes, and drives a
// [Device] with them.
//
// It follows the vhost-user protocol as QEMU's docs/interop/vhost-user.rst describes it: messages 1-3, 5, 8-21, 34 and
// 36-38, the protocol features MQ, RARP, REPLY_ACK, NET_MTU, BACKEND_REQ, RESET_DEVICE, CONFIGURE_MEM_SLOTS and
// GPA_ADDRESSES. Front ends differ in the order of their messages, so
// a session stores what arrives and decides after each message which rings can run.
//
// Trust: a front end may send anything. No message, descriptor, size or order ends the process, leaks a descriptor or a
// mapping, or disturbs another session. What cannot be honoured is refused: with a negative acknowledgement if the front
// end asked for one, otherwise by ending the session with the reason in the log.
//
// Concurrency: a [Server] serves one front end at a time; the front end's messages are handled by one goroutine, which
// alone calls the Device.
//
// What does not belong here: the bytes of messages (package wire), sockets and descriptor passing (internal/fdconn),
// mapping memory (package guestmem), reading rings (package virtqueue), and moving frames.
package vhostuser
