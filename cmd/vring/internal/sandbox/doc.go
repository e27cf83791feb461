// Package sandbox takes from this process what it does not need once everything is open: capabilities, files, programs,
// kinds of sockets and system calls. A guest that finds a hole in vring is left with the network of that guest.
//
// There are four walls, and a kernel may lack any but the first two:
//
//   - no_new_privs (prctl(2)): no program that might be started gains rights;
//   - capabilities(7): all dropped, on all threads. vring needs them, if at all, to bind ports below 1024, which is done;
//   - Landlock (landlock(7)): of all files, those of Config.Read may be read and those of Config.Remove be removed. A call
//     that is denied returns EACCES, and vring goes on;
//   - seccomp(2): a list of the system calls that vring and the Go runtime make; everything else is refused.
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
// # Limits
//
// Landlock knows hierarchies of files, no single names. A file that is replaced by another one under its name can be
// read again only if its directory can be read, with all that this process's user may read in it: for /etc/resolv.conf
// that is /etc. With Config.Read empty, no file can be opened. Without Landlock, seccomp still keeps files from being
// opened for writing.
//
// Landlock is asked for what its ABI 7 (Linux 6.15) restricts, or the most that the kernel has of it. What later ones
// restrict, connections to unix sockets and UDP, is to be adopted where it can be tested.
//
// seccomp's list is known for amd64 and arm64; elsewhere this wall is missing.
//
// The package belongs to the command: it changes the whole process and cannot be undone. Tests do it in child processes.
package sandbox
