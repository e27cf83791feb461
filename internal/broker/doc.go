// Package broker is a process beside the one that serves guests, and does what that one cannot do in its sandbox: it reads
// resolv.conf and the configuration's file, connects to front ends that listen, sets up TAP devices, opens sockets of forwards, and
// accepts connections to the control socket. In the end it undoes what was changed on the host and removes the files of sockets, also
// if the other process is killed. It talks to no guest.
//
// [Client] is the side of the process that serves guests, [Run] the life of the broker. What the broker is for, its
// [Duties], is said once, by a process that serves nobody yet. Requests come later, from one that may not be trusted any
// more: each is short, and can name nothing that the duties did not name.
//
// Of forwards the duties name kinds, not places ([Binds]). A process in a guest's hands must not open anything to other machines, take
// a port that needs a right, or make a file, unless a forward of the start is of that kind: the broker refuses that by its own
// checks. Ports of the loopback are left; so the duty is given only where forwards may change. How many sockets are opened is
// bounded, at once and in a second.
//
// The two speak by messages over a unix socket (SOCK_SEQPACKET): the broker sends an answer when it is ready, one for each
// request, and one after the end of requests. Who waits for an answer waits for a bounded time; after one that is missing
// nothing is asked any more. The broker has a sandbox of its own.
//
// What does not belong here: guests' traffic, the policy, how a user is told.
package broker
