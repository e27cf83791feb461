// Package sandbox takes from this process what it does not need once everything is open: capabilities, files, programs,
// kinds of sockets and system calls. A guest that finds a hole in vring is left with the network of that guest.
//
// There are five walls, and a kernel, or what confines this process, may lack any but the first two:
//
//   - no_new_privs (prctl(2)): no program that might be started gains rights;
//   - capabilities(7): all dropped, on all threads. vring needs them, if at all, to bind ports below 1024, which is done;
//   - a user of its own ([User]), for a process that root has started: it owns no file and no other process;
//   - Landlock (landlock(7)): all files are out of bounds, and signals, ports and abstract sockets as its version knows them;
//   - seccomp(2): a list of the system calls that vring and the Go runtime make, and for those that reach beyond the process
//     of their arguments; everything else is refused.
//
// [Enter] tells how they stand, and warns of what is less than all of them. docs/design.md says which promise is kept by which.
//
// The same walls, with other openings, are for the process beside vring that reads, removes, dials, binds and sets up interfaces:
// see the second half of [Config].
//
// # What is not on the list ends the process
//
// A call that is not on seccomp's list raises SIGSYS, which the Go runtime answers like a nil pointer: it prints the
// stack, call number and arguments, and ends with status 2. The alternatives were weighed. An error (EPERM) would let the
// process go on, but the runtime ignores errors of futex, nanosleep or tgkill, and spins or hangs when they fail; some of
// our own callers ignore errors too. So a call that was forgotten would be a riddle, whereas a stack trace names it. And
// what makes such a call in earnest is an intruder, with whom the process should not go on. What a guest may provoke is
// the same set of calls whatever it sends, and the tests make them under the sandbox. Mode Log is there for finding what
// is missing: it refuses nothing, and the kernel's log names the numbers of calls that would be refused. The list itself
// was found with strace, under the tests of package integration.
//
// Calls that find files by their paths are answered with EACCES: libraries look for files that they can do without.
//
// # Limits
//
// What a process has open it can use. Landlock's rules hold for hierarchies of files: a process that reads one file, whose
// links may lead anywhere, may read all that its user may; it should do nothing else.
//
// Landlock is asked for what its ABI 7 (Linux 6.15) restricts, or the most that the kernel has of it. What later ones
// restrict, connections to unix sockets and UDP, is to be adopted where it can be tested.
//
// seccomp's list is known for amd64 and arm64; elsewhere this wall is missing.
//
// [Enter] changes the whole process and cannot be undone: it is for a program that has opened what it needs. Tests do it in
// child processes.
package sandbox
