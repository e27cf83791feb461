// Package hostsock makes the system calls on the host's sockets that the engine needs for each packet: messages and batches of
// datagrams from and into pieces of guest memory, their control messages, errors that the kernel kept, and the state of a socket's
// buffers. Calls are raw: sockets do not block, and nothing is allocated.
//
// It knows neither flows nor guests, nor who owns a socket.
package hostsock
