// Package mmsg sends and receives many packets by one system call (sendmmsg(2), recvmmsg(2)), without allocations: a [Batch] is the scratch of the
// calls. Package ownrings has the memory that packets lie in.
//
// The calls are raw: none of them waits, and the thread keeps its processor. The flag says so with each, since O_NONBLOCK belongs to the open
// file, which others may have, too. A Batch is for one thread at a time, and stays where it is while it has names.
//
// What does not belong here: what is in packets.
package mmsg
