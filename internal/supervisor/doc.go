// Package supervisor is the process that the user has started, where another one serves the guests. It starts that server,
// which is the same program with the same arguments, in namespaces of its own, and the broker beside it. It ends when both
// have ended, with the server's exit status.
//
//	supervisor: the process that users and service managers know
//	 ├── server: serves guests, in its sandbox (package sandbox)
//	 └── broker: does what the server cannot do there (package broker)
//
// [Run] is the supervisor's side, [Inherit] the server's. The server opens what its configuration names while it still sees
// the host's files. Package sandbox then gives it a root directory without files. A Go program cannot move into other namespaces
// itself, since it has several threads from its start (unshare(2), setns(2)); that is why there is a supervisor.
//
// Signals go to the supervisor. What they ask for it tells the server by a pipe, so that no signal is lost or comes twice, be
// it sent to one process or to all of a service. The kernel kills the server when the supervisor dies, also where root's server has
// become another user's ([Becoming]), for which the supervisor keeps CAP_KILL. The broker outlives both,
// until it has undone what was changed on the host.
//
// What does not belong here: guests, the configuration, what the broker does.
package supervisor
